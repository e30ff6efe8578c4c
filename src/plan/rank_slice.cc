#include "plan/rank_slice.h"

#include <algorithm>

#include "plan/expert_exchange.h"

namespace longspan {

SliceRange even_part(int64_t total, int64_t parts, int64_t index) {
  const int64_t each = total / parts, more = total % parts;
  return {index * each + std::min(index, more), each + (index < more)};
}

int32_t kv_slices(const LayoutModel& model, const Layout& layout) {
  return std::min(model.heads_kv, layout.attn_tp);
}

int32_t kv_slice(const LayoutModel& model, const Layout& layout, int32_t rank) {
  return layout.coordinates(rank).attn_tp_rank * kv_slices(model, layout) / layout.attn_tp;
}

RankSlice rank_slice(const LayoutModel& model, const Layout& layout, int32_t rank, bool gathers_kv) {
  const RankCoordinates at = layout.coordinates(rank);
  RankSlice slice;
  slice.heads_q = even_part(model.heads_q, layout.attn_tp, at.attn_tp_rank);
  slice.heads_kv = even_part(model.heads_kv, kv_slices(model, layout), kv_slice(model, layout, rank));
  slice.mlp = even_part(model.mlp_width, layout.attn_tp, at.attn_tp_rank);
  slice.vocab = even_part(model.vocab, layout.attn_tp, at.attn_tp_rank);
  slice.experts = even_part(model.experts, layout.ep, at.ep_rank);
  slice.expert_width = even_part(model.expert_width, layout.moe_tp, at.moe_tp_rank);
  slice.shared_width = even_part(model.shared_expert_width, layout.moe_tp, at.moe_tp_rank);
  slice.leads_attn_tp = at.attn_tp_rank == 0;
  slice.adds_shared = at.ep_rank == 0 || choose_expert_exchange(model, layout) == ExpertExchange::kAllToAll;
  slice.writes_kv =
      at.attn_tp_rank == 0 || kv_slice(model, layout, rank - 1) != kv_slice(model, layout, rank);
  slice.splits_qkv = gathers_kv && layout.cp > 1;
  return slice;
}

}  // namespace longspan
