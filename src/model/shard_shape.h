#pragma once

#include <longspan/engine.h>

#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "plan/layout_rules.h"
#include "plan/shard_workspace.h"

namespace longspan {

/// Pages of one rank's slice of the model; their number is left 0.
KvShape kv_pool_shape(const ModelConfig& config, const Layout& layout, int32_t page_size);

/// What the options ask of sharded KV on one rank. A step has no more new tokens than the pools hold.
ShardWorkspaceShape shard_workspace_shape(const EngineOptions& options, const ModelConfig& config,
                                          const Layout& layout, const Ops& ops);

/// Bytes of one rank beside its pages, at most: the scratch pool, and a step's arena.
int64_t shard_workspace_bytes(const ShardWorkspaceShape& shape, const KvShape& pool, const Ops& ops);

}  // namespace longspan
