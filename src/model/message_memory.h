#pragma once

#include <longspan/engine.h>

#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "plan/layout_rules.h"

namespace longspan {

/// Bytes that one process of a job keeps for messages to and from the others, at most: the copies of what
/// travels in a step, of the rank with the most. Without a limit on new tokens per step, of a step as long as
/// the context.
int64_t message_bytes(const EngineOptions& options, const ModelConfig& config, const Layout& layout,
                      const Ops& ops);

}  // namespace longspan
