#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/view.h"

namespace cann_sim {

constexpr int64_t kMaskSide = 2048;
constexpr int64_t kNoLimit = int64_t{1} << 40;  // beyond every length

/// Which keys of its request a query row may see: row i those from i + shift - before to i + shift + after,
/// where shift is 0, or keys - rows for a band that ends with the last row and the last key.
struct Band {
  int64_t before = kNoLimit, after = kNoLimit;
  bool from_the_end = false;

  /// [first, last) of `keys`; empty: first >= last.
  std::pair<int64_t, int64_t> keys_of(int64_t row, int64_t rows, int64_t keys) const {
    const int64_t diagonal = row + (from_the_end ? keys - rows : 0);
    return {std::max(int64_t{0}, diagonal - before), std::min(keys, diagonal + after + 1)};
  }
};

/// Attention of several requests. Query rows, and keys that are not in pages, lie one request after the other
/// ([tokens, heads, dim]) or in a batch of padded requests ([B, S, heads, dim]); where the layout puts the
/// heads is in the strides.
struct FusedAttention {
  View query;
  View key, value;                  // rows, or pages
  std::optional<View> block_table;  // [B, max blocks] INT32; none: rows
  int64_t block_size = 0;
  bool heads_first = false;  // pages [blocks, Nkv, block size, D] instead of [blocks, block size, Nkv * D]
  Band band;
  std::optional<View> compressed_mask;  // 2048 x 2048, 1 above the diagonal: what a band is computed with
  std::optional<View> full_mask;        // [1 or B, S, KV_S], 1 hides a key
  View out;                             // like the query, with the dim of values
  std::optional<View> lse;              // likewise, with a dim of 1
  std::vector<int64_t> query_lengths, kv_lengths;  // of each request
  int64_t kv_heads = 0, key_dim = 0, value_dim = 0;
  float scale = 1;

  bool padded() const { return query.rank() == 4; }
};

/// Softmax(scale q k) v in f32, each query row on its own. A row that sees nothing gives 0 and an LSE of
/// +inf. Rows behind a request's length are not written.
void attend(const FusedAttention& a);

}  // namespace cann_sim
