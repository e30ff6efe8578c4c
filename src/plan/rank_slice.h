#pragma once

#include <cstdint>

#include "plan/layout_rules.h"

namespace longspan {

/// Part [begin, begin + count) of some dimension.
struct SliceRange {
  int64_t begin = 0, count = 0;

  int64_t end() const { return begin + count; }
  bool operator==(const SliceRange&) const = default;
};

/// Part `index` of `total` things dealt out in order as evenly as whole numbers allow; the first parts get
/// one more.
SliceRange even_part(int64_t total, int64_t parts, int64_t index);

/// What one rank holds of a model.
struct RankSlice {
  SliceRange heads_q;
  SliceRange heads_kv;  // at least one: heads are copied where attn_tp passes their number
  SliceRange mlp;       // columns of dense layers
  SliceRange vocab;     // rows of lm_head
  SliceRange experts;
  SliceRange expert_width;
  SliceRange shared_width;    // of the shared expert: over moe_tp, and the same on every ep rank
  bool leads_attn_tp = true;  // adds the biases of what is reduced over attn_tp
  bool adds_shared = true;  // holds the shared expert: the first ep rank, or all (ExpertExchange::kAllToAll)
  /// The lowest attn_tp rank with these kv heads: writes them where ranks share a pool.
  bool writes_kv = true;
  /// k and v are a matrix of their own, multiplied before q: their rows travel meanwhile.
  bool splits_qkv = false;

  bool operator==(const RankSlice&) const = default;
};

/// `gathers_kv`: the ranks of a cp group have a KV pool each.
RankSlice rank_slice(const LayoutModel& model, const Layout& layout, int32_t rank, bool gathers_kv = false);

/// Number of the rank's distinct slice of kv heads, 0 .. kv_slices(...) - 1.
int32_t kv_slice(const LayoutModel& model, const Layout& layout, int32_t rank);
int32_t kv_slices(const LayoutModel& model, const Layout& layout);

}  // namespace longspan
