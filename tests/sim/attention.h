#pragma once

#include <functional>
#include <optional>

#include "sim/cann.h"

namespace cann_test {

/// The arguments of aclnnFusedInferAttentionScoreV3 that calls vary; the rest are null or defaults.
struct FusedAttentionArgs {
  static constexpr int64_t kNoLimit = 2147483647;
  aclTensor *query = nullptr, *mask = nullptr, *block_table = nullptr, *out = nullptr, *lse = nullptr;
  aclTensorList *key = nullptr, *value = nullptr;
  aclIntArray *q_ends = nullptr, *kv_lengths = nullptr;
  aclTensor *pse = nullptr, *antiquant_scale = nullptr;
  int64_t heads = 0, kv_heads = 0, sparse_mode = 3, inner_precise = 0, block_size = 128;
  int64_t before = kNoLimit, after = kNoLimit, key_antiquant_mode = 0;
  double scale = 1;
  std::optional<std::string> layout = "TND";  // none: null
  bool wants_lse = false;
};

inline int run_attention(Session& s, const FusedAttentionArgs& a) {
  std::optional<std::string> layout = a.layout;
  return RUN(s, aclnnFusedInferAttentionScoreV3, a.query, a.key, a.value, a.pse, a.mask, a.q_ends,
             a.kv_lengths, nullptr, nullptr, nullptr, nullptr, nullptr, a.antiquant_scale, nullptr,
             a.block_table, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
             nullptr, nullptr, nullptr, a.heads, a.scale, a.before, a.after,
             layout ? layout->data() : nullptr, a.kv_heads, a.sparse_mode, a.inner_precise, a.block_size, 0,
             a.wants_lse, a.key_antiquant_mode, 0, a.out, a.lse);
}

constexpr int64_t kMaskSide = 2048;

/// 2048 x 2048, 1 strictly above the diagonal.
inline std::vector<int8_t> causal_mask() {
  std::vector<int8_t> mask(kMaskSide * kMaskSide);
  for (int64_t row = 0; row < kMaskSide; ++row)
    for (int64_t col = row + 1; col < kMaskSide; ++col) mask[row * kMaskSide + col] = 1;
  return mask;
}

}  // namespace cann_test
