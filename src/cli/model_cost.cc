#include "cli/model_cost.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace longspan::cli {
namespace {

int32_t moe_layers(const ModelConfig& config) {
  return static_cast<int32_t>(std::count(config.layer_is_moe.begin(), config.layer_is_moe.end(), true));
}

int64_t divided(int64_t total, int64_t parts) {
  return (total + parts - 1) / parts;
}

// Weights split over attn_tp: projections, dense MLPs, lm_head.
int64_t attention_side_bytes(const ModelConfig& config, const Layout& layout, const RankSlice& slice,
                             const Ops& ops) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = int64_t{slice.heads_q} * config.head_dim;
  const int64_t kv = int64_t{slice.heads_kv} * config.head_dim;
  const int64_t dense_layers = config.num_layers - moe_layers(config);
  const int64_t width = divided(config.intermediate_size, layout.attn_tp);
  int64_t bytes =
      config.num_layers * (ops.packed_linear_bytes(q + 2 * kv, hidden) + ops.packed_linear_bytes(hidden, q));
  if (dense_layers > 0) {
    bytes +=
        dense_layers * (ops.packed_linear_bytes(2 * width, hidden) + ops.packed_linear_bytes(hidden, width));
  }
  return bytes + ops.packed_linear_bytes(divided(config.vocab_size, layout.attn_tp), hidden);
}

// Routers (f32, whole on every rank), routed and shared experts.
int64_t expert_side_bytes(const ModelConfig& config, const Layout& layout, const RankSlice& slice,
                          const Ops& ops) {
  const int64_t hidden = config.hidden_size;
  const int64_t f32 = static_cast<int64_t>(sizeof(float));
  int64_t layer = config.num_experts * hidden * f32;
  layer += slice.experts * ops.packed_expert_bytes(hidden, slice.expert_width);
  if (config.shared_expert_intermediate_size > 0) {
    const int64_t width = divided(config.shared_expert_intermediate_size, layout.moe_tp);
    layer +=
        ops.packed_linear_bytes(2 * width, hidden) + ops.packed_linear_bytes(hidden, width) + hidden * f32;
  }
  return moe_layers(config) * layer;
}

int64_t kv_token_bytes(const ModelConfig& config, const RankSlice& slice, int32_t page_size, const Ops& ops) {
  const KvShape shape{.layers = config.num_layers,
                      .pages = 1,
                      .page_size = page_size,
                      .heads_k = slice.heads_kv,
                      .dim_k = config.head_dim,
                      .heads_v = slice.heads_kv,
                      .dim_v = config.head_dim};
  return ops.kv_page_bytes(shape) / page_size;
}

}  // namespace

LayoutModel layout_model(const ModelConfig& config) {
  const bool has_dense_layers = moe_layers(config) < config.num_layers;
  return {.heads_q = config.num_heads,
          .heads_kv = config.num_kv_heads,
          .experts = config.num_experts,
          .expert_width = config.moe_intermediate_size,
          .shared_expert_width = config.shared_expert_intermediate_size,
          .mlp_width = has_dense_layers ? config.intermediate_size : 0,
          .vocab = config.vocab_size};
}

RankSlice rank_slice(const ModelConfig& config, const Layout& layout, int32_t rank) {
  RankSlice slice;
  slice.heads_q = config.num_heads / layout.attn_tp;
  slice.heads_kv = std::max(1, config.num_kv_heads / layout.attn_tp);
  if (config.num_experts > 0) {
    const int32_t ep_rank = layout.coordinates(rank).ep_rank;
    slice.experts = config.num_experts / layout.ep + (ep_rank < config.num_experts % layout.ep);
    slice.expert_width = config.moe_intermediate_size / layout.moe_tp;
  }
  return slice;
}

CostShape cost_shape(const ModelConfig& config, const Layout& layout) {
  const RankSlice slice = rank_slice(config, layout, 0);
  return {.layers = config.num_layers,
          .moe_layers = moe_layers(config),
          .hidden = config.hidden_size,
          .heads_q = slice.heads_q,
          .heads_kv = slice.heads_kv,
          .dim_k = config.head_dim,
          .dim_v = config.head_dim,
          .mlp_width = divided(config.intermediate_size, layout.attn_tp),
          .experts = config.num_experts,
          .experts_per_token = config.num_experts_per_tok,
          .expert_width = slice.expert_width,
          .shared_expert_width = divided(config.shared_expert_intermediate_size, layout.moe_tp),
          .vocab = divided(config.vocab_size, layout.attn_tp)};
}

double weights_read_share(const ModelConfig& config, int64_t rows) {
  const double hidden = config.hidden_size;
  const double moe = moe_layers(config), dense = config.num_layers - moe;
  const double attention = hidden * config.head_dim * (2.0 * config.num_heads + 2.0 * config.num_kv_heads);
  const double always =
      config.num_layers * attention +
      hidden * (dense * 3 * static_cast<double>(config.intermediate_size) +
                moe * (config.num_experts + 3 * static_cast<double>(config.shared_expert_intermediate_size)) +
                static_cast<double>(config.vocab_size));
  if (config.num_experts == 0) return 1;
  const double experts =
      moe * config.num_experts * 3 * hidden * static_cast<double>(config.moe_intermediate_size);
  const double missed = std::pow(1.0 - static_cast<double>(config.num_experts_per_tok) / config.num_experts,
                                 static_cast<double>(rows));
  return (always + experts * (1 - missed)) / (always + experts);
}

std::vector<RankBytes> rank_bytes(const ModelConfig& config, const Layout& layout, int32_t page_size,
                                  const Ops& ops) {
  std::vector<RankBytes> ranks;
  for (int32_t rank = 0; rank < layout.tp; ++rank) {
    const RankSlice slice = rank_slice(config, layout, rank);
    ranks.push_back(
        {attention_side_bytes(config, layout, slice, ops) + expert_side_bytes(config, layout, slice, ops),
         kv_token_bytes(config, slice, page_size, ops)});
  }
  return ranks;
}

ProcessBytes process_bytes(const ModelConfig& config, const Layout& layout, int32_t page_size, bool share_kv,
                           const Ops& ops) {
  ProcessBytes total;
  std::set<int32_t> attention_slices, kv_slices;
  std::set<std::pair<int32_t, int32_t>> expert_slices;
  for (int32_t rank = 0; rank < layout.tp; ++rank) {
    const RankSlice slice = rank_slice(config, layout, rank);
    const RankCoordinates at = layout.coordinates(rank);
    if (attention_slices.insert(at.attn_tp_rank).second) {
      total.weights += attention_side_bytes(config, layout, slice, ops);
    }
    if (config.num_experts > 0 && expert_slices.insert({at.ep_rank, at.moe_tp_rank}).second) {
      total.weights += expert_side_bytes(config, layout, slice, ops);
    }
    const int32_t first_kv_head = at.attn_tp_rank * config.num_kv_heads / layout.attn_tp;
    if (kv_slices.insert(first_kv_head).second || !share_kv) {
      ++total.kv_pools;
      total.kv_per_token += kv_token_bytes(config, slice, page_size, ops);
    }
  }
  return total;
}

}  // namespace longspan::cli
