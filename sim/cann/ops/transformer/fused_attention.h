#pragma once

#include <optional>
#include <vector>

#include "core/view.h"

namespace cann_sim {

constexpr int64_t kMaskSide = 2048;

/// Attention in TND: query rows of several sequences one after the other, keys and values in pages or in rows
/// likewise.
struct FusedAttention {
  View query;                       // [T, N, D]
  View key, value;                  // rows [Tkv, Nkv, D], or pages
  std::optional<View> block_table;  // [B, max blocks] INT32; none: rows
  int64_t block_size = 0;
  bool heads_first = false;  // pages [blocks, Nkv, block size, D] instead of [blocks, block size, Nkv * D]
  std::optional<View> mask;  // 2048 x 2048, 1 above the diagonal; none: every query sees every key
  View out;                  // [T, N, Dv]
  std::optional<View> lse;   // [T, N, 1]
  std::vector<int64_t> query_ends;  // running sums of query lengths
  std::vector<int64_t> kv_lengths;  // of each sequence
  int64_t kv_heads = 0, key_dim = 0, value_dim = 0;
  float scale = 1;
};

/// Softmax(scale q k) v in f32, each query row on its own. With a mask, the last query of a sequence sees all
/// its keys, the one before all but one, and so on.
void attend(const FusedAttention& a);

}  // namespace cann_sim
