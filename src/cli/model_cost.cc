#include "cli/model_cost.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "model/layout_model.h"

namespace longspan::cli {
namespace {

int32_t moe_layers(const ModelConfig& config) {
  return static_cast<int32_t>(std::count(config.layer_is_moe.begin(), config.layer_is_moe.end(), true));
}

int64_t bias_bytes(bool bias, int64_t features) {
  return bias ? features * static_cast<int64_t>(sizeof(float)) : 0;
}

// k_proj and v_proj of all layers, where they are a matrix of their own.
int64_t kv_projection_bytes(const ModelConfig& config, const RankSlice& slice, const Ops& ops) {
  const int64_t kv = 2 * slice.heads_kv.count * config.head_dim;
  return config.num_layers *
         (ops.packed_linear_bytes(kv, config.hidden_size) + bias_bytes(config.qkv_bias, kv));
}

// Weights split over attn_tp: projections, dense MLPs, lm_head.
int64_t attention_side_bytes(const ModelConfig& config, const RankSlice& slice, const Ops& ops) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = slice.heads_q.count * config.head_dim;
  const int64_t first = slice.splits_qkv ? q : q + 2 * slice.heads_kv.count * config.head_dim;
  const int64_t dense_layers = config.num_layers - moe_layers(config);
  const int64_t width = slice.mlp.count;
  int64_t bytes =
      config.num_layers *
      (ops.packed_linear_bytes(first, hidden) + bias_bytes(config.qkv_bias, first) +
       ops.packed_linear_bytes(hidden, q) + bias_bytes(config.o_bias && slice.leads_attn_tp, hidden));
  if (slice.splits_qkv) bytes += kv_projection_bytes(config, slice, ops);
  if (dense_layers > 0) {
    bytes += dense_layers * (ops.packed_linear_bytes(2 * width, hidden) +
                             bias_bytes(config.mlp_bias, 2 * width) + ops.packed_linear_bytes(hidden, width) +
                             bias_bytes(config.mlp_bias && slice.leads_attn_tp, hidden));
  }
  return bytes + ops.packed_linear_bytes(slice.vocab.count, hidden, LinearPrecision::kUnquantized);
}

int64_t router_linear_bytes(const Ops& ops, int64_t out_features, int64_t hidden) {
  return ops.packed_linear_bytes(out_features, hidden, LinearPrecision::kF32);
}

// Routers (f32) and what the device keeps of the embedding: whole on every rank, one copy in a process.
int64_t whole_bytes(const ModelConfig& config, const Ops& ops) {
  const int64_t embedding = ops.embedding_bytes(config.vocab_size, config.hidden_size, config.dtype);
  if (config.num_experts == 0) return embedding;
  return embedding + moe_layers(config) * router_linear_bytes(ops, config.num_experts, config.hidden_size);
}

int64_t routed_expert_bytes(const ModelConfig& config, const RankSlice& slice, const Ops& ops) {
  return moe_layers(config) * slice.experts.count *
         ops.packed_expert_bytes(config.hidden_size, slice.expert_width.count);
}

// The rank's columns of the shared expert.
int64_t shared_expert_bytes(const ModelConfig& config, const RankSlice& slice, const Ops& ops) {
  const int64_t hidden = config.hidden_size, width = slice.shared_width.count;
  if (width == 0 || !slice.adds_shared) return 0;
  return moe_layers(config) *
         (ops.packed_linear_bytes(2 * width, hidden) + ops.packed_linear_bytes(hidden, width));
}

// Its f32 gate.
int64_t shared_gate_bytes(const ModelConfig& config, const RankSlice& slice, const Ops& ops) {
  if (slice.shared_width.count == 0 || !slice.adds_shared) return 0;
  return moe_layers(config) * router_linear_bytes(ops, 1, config.hidden_size);
}

int64_t kv_token_bytes(const ModelConfig& config, const RankSlice& slice, int32_t page_size, const Ops& ops) {
  const KvShape shape{.layers = config.num_layers,
                      .pages = 1,
                      .page_size = page_size,
                      .heads_k = static_cast<int32_t>(slice.heads_kv.count),
                      .dim_k = config.head_dim,
                      .heads_v = static_cast<int32_t>(slice.heads_kv.count),
                      .dim_v = config.head_dim};
  return ops.kv_page_bytes(shape) / page_size;
}

}  // namespace

CostShape cost_shape(const ModelConfig& config, const Layout& layout) {
  const RankSlice slice = rank_slice(layout_model(config), layout, 0);
  return {.layers = config.num_layers,
          .moe_layers = moe_layers(config),
          .hidden = config.hidden_size,
          .heads_q = static_cast<int32_t>(slice.heads_q.count),
          .heads_kv = static_cast<int32_t>(slice.heads_kv.count),
          .dim_k = config.head_dim,
          .dim_v = config.head_dim,
          .mlp_width = slice.mlp.count,
          .experts = config.num_experts,
          .experts_per_token = config.num_experts_per_tok,
          .expert_width = slice.expert_width.count,
          .shared_expert_width = slice.shared_width.count,
          .vocab = slice.vocab.count};
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
                                  bool share_kv, const Ops& ops) {
  std::vector<RankBytes> ranks;
  for (int32_t rank = 0; rank < layout.tp; ++rank) {
    const RankSlice slice = rank_slice(layout_model(config), layout, rank, !share_kv);
    ranks.push_back({attention_side_bytes(config, slice, ops) + whole_bytes(config, ops) +
                         routed_expert_bytes(config, slice, ops) + shared_expert_bytes(config, slice, ops) +
                         shared_gate_bytes(config, slice, ops),
                     kv_token_bytes(config, slice, page_size, ops)});
  }
  return ranks;
}

ProcessBytes process_bytes(const ModelConfig& config, const Layout& layout, int32_t page_size, bool share_kv,
                           const Ops& ops) {
  ProcessBytes total;
  const LayoutModel model = layout_model(config);
  std::set<int32_t> attention_slices, kv_projections, shared_slices;
  std::set<std::pair<int32_t, int32_t>> expert_slices;
  for (int32_t rank = 0; rank < layout.tp; ++rank) {
    const RankSlice slice = rank_slice(model, layout, rank, !share_kv);
    const RankCoordinates at = layout.coordinates(rank);
    if (attention_slices.insert(at.attn_tp_rank).second) {
      total.weights += attention_side_bytes(config, slice, ops);
      const bool first_with_these = kv_projections.insert(kv_slice(model, layout, rank)).second;
      if (slice.splits_qkv && !first_with_these) total.weights -= kv_projection_bytes(config, slice, ops);
    }
    if (expert_slices.insert({at.ep_rank, at.moe_tp_rank}).second)
      total.weights += routed_expert_bytes(config, slice, ops);
    if (slice.adds_shared && shared_slices.insert(at.moe_tp_rank).second)
      total.weights += shared_expert_bytes(config, slice, ops);
  }
  const RankSlice first = rank_slice(model, layout, 0);
  total.weights += whole_bytes(config, ops) + shared_gate_bytes(config, first, ops);
  total.kv_pools = share_kv ? kv_slices(model, layout) : layout.tp;
  total.kv_per_token = total.kv_pools * kv_token_bytes(config, first, page_size, ops);
  return total;
}

}  // namespace longspan::cli
