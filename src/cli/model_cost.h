#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "plan/cost.h"
#include "plan/rank_slice.h"

namespace longspan::cli {

/// What a layout makes of a model, from the config alone: predictions, no weights are read.

CostShape cost_shape(const ModelConfig& config, const Layout& layout);

/// Share of the weights (by number; the embedding is not among them) that a step with `rows` decoding rows
/// reads, where every row chooses its experts independently and evenly.
double weights_read_share(const ModelConfig& config, int64_t rows);

struct RankBytes {
  int64_t weights = 0;       // packed; a device in host memory leaves the embedding in the file's map
  int64_t kv_per_token = 0;  // K and V over all layers
};

/// [layout.tp]
std::vector<RankBytes> rank_bytes(const ModelConfig& config, const Layout& layout, int32_t page_size,
                                  bool share_kv, const Ops& ops);

struct ProcessBytes {
  int64_t weights = 0;       // all ranks in one process: each slice once
  int64_t kv_per_token = 0;  // over all pools
  int64_t kv_pools = 0;
};

ProcessBytes process_bytes(const ModelConfig& config, const Layout& layout, int32_t page_size, bool share_kv,
                           const Ops& ops);

}  // namespace longspan::cli
