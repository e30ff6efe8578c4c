#pragma once

#include <cstdint>

#include "device/cpu/attention_tile.h"

/// What all kernels do with rows of scores, instantiated by each instruction set's file. Everything has
/// internal linkage: code compiled for one instruction set must not be picked by the linker for another.
///
/// V is a vector of kWidth floats with load, store, set1, add, sub, mul, fma(a, b, c) = a * b + c, max,
/// round, scale_pow2(p, n, x) = x < -126 ? 0 : p * 2^n, keep_below(n, x) = lanes >= n become -inf, max_lane.
namespace longspan {
namespace {

constexpr int64_t kLineBytes = 64;
constexpr float kLowest = -1e30f;  // below any score, and finite: differences of maxima are never NaN

constexpr int32_t round_up(int32_t a, int32_t b) {
  return (a + b - 1) / b * b;
}
constexpr int64_t round_up_bytes(int64_t bytes) {
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}
constexpr int32_t at_most(int32_t a, int32_t b) {
  return a < b ? a : b;
}
constexpr int32_t at_least(int32_t a, int32_t b) {
  return a < b ? b : a;
}

/// 2^x for x <= 0, exactly 1 at 0, 0 below -126: for vectors without a scaling instruction. Minimax in the
/// fraction, relative error 2e-9 before rounding.
template <class V>
inline typename V::T exp2_by_rounding(typename V::T x) {
  const auto n = V::round(x);
  const auto f = V::sub(x, n);
  auto p = V::set1(0x1.41fbbcp-13f);
  p = V::fma(p, f, V::set1(0x1.5f3e54p-10f));
  p = V::fma(p, f, V::set1(0x1.3b2d4cp-7f));
  p = V::fma(p, f, V::set1(0x1.c6aee8p-5f));
  p = V::fma(p, f, V::set1(0x1.ebfbdcp-3f));
  p = V::fma(p, f, V::set1(0x1.62e430p-1f));
  return V::scale_pow2(V::fma(p, f, V::set1(1.0f)), n, x);
}

template <class V>
inline float exp2_scalar(float x) {
  alignas(64) float lanes[V::kWidth];
  V::store(lanes, V::exp2(V::set1(x)));
  return lanes[0];
}

/// Panels of consecutive keys, as the multiplies see them.
struct KeyBlock {
  static constexpr int32_t kPanels = 16;
  static constexpr int32_t kKeys = kPanels * kPanelKeys;
  const char* k[kPanels];  // lines of 16 keys
  const char* v[kPanels];  // column 0 of 16
  int64_t v_column_bytes;
  int32_t position[kPanels];  // of the panel's first key
  int32_t count[kPanels];     // keys that exist, <= 16
  int32_t panels;
  int32_t end;  // position after the last key
  bool whole;   // every panel has 16 keys
};

inline void find_panels(const AttentionTile& tile, int32_t begin, int32_t end, KeyBlock& block) {
  block.panels = end - begin;
  block.v_column_bytes = tile.v_column_bytes;
  block.whole = true;
  const int64_t v_panel_bytes = tile.v_column_bytes / tile.page_panels;
  int32_t page = begin / tile.page_panels, in_page = begin % tile.page_panels;
  for (int32_t i = 0; i < block.panels; ++i) {
    const int64_t base = tile.pages[page] * tile.page_bytes;
    block.k[i] = tile.k + base + in_page * tile.k_panel_bytes;
    block.v[i] = tile.v + base + in_page * v_panel_bytes;
    block.position[i] = page * tile.page_size + in_page * kPanelKeys;
    block.count[i] = at_most(kPanelKeys, tile.page_size - in_page * kPanelKeys);
    block.whole = block.whole && block.count[i] == kPanelKeys;
    block.end = block.position[i] + block.count[i];
    if (++in_page == tile.page_panels) {
      in_page = 0;
      ++page;
    }
  }
}

/// The block that comes next, fetched from memory in equal shares (0: not at all) while the rows of this one
/// are worked on.
class ComingBlock {
 public:
  ComingBlock(const AttentionTile& tile, int32_t begin, int32_t end, int32_t shares)
      : k_bytes_(tile.k_panel_bytes),
        v_bytes_(tile.v_column_bytes / tile.page_panels),
        v_columns_(round_up(tile.dv, kPanelKeys) / kPanelKeys) {
    find_panels(tile, begin, end, block_);
    const int64_t pieces = block_.panels * (pieces_of(k_bytes_) + v_columns_ * pieces_of(v_bytes_));
    share_ = shares == 0 ? 0 : static_cast<int32_t>((pieces + shares - 1) / shares);
    if (block_.panels > 0) start_run();
  }

  const KeyBlock& block() const { return block_; }

  void fetch_share() {
    for (int32_t i = 0; i < share_ && panel_ < block_.panels; ++i) fetch_piece();
  }

 private:
  static constexpr int64_t kPieceBytes = 8 * kLineBytes;
  static constexpr int64_t pieces_of(int64_t bytes) { return (bytes + kPieceBytes - 1) / kPieceBytes; }

  // Bytes that lie together: a panel's keys, then its part of each 16 columns of v.
  void start_run() {
    at_ = run_ == 0 ? block_.k[panel_] : block_.v[panel_] + (run_ - 1) * block_.v_column_bytes;
    end_ = at_ + (run_ == 0 ? k_bytes_ : v_bytes_);
  }

  void fetch_piece() {
#pragma GCC unroll 8
    for (int64_t line = 0; line < kPieceBytes; line += kLineBytes) __builtin_prefetch(at_ + line, 0, 2);
    at_ += kPieceBytes;
    if (at_ < end_) return;
    if (++run_ > v_columns_) {
      run_ = 0;
      if (++panel_ == block_.panels) return;
    }
    start_run();
  }

  KeyBlock block_;
  int64_t k_bytes_, v_bytes_;  // of a panel; of a panel and 16 columns
  int32_t v_columns_;          // in sixteens
  int32_t share_ = 0, panel_ = 0, run_ = 0;
  const char* at_ = nullptr;
  const char* end_ = nullptr;
};

/// Panels that hold keys [0, limit).
inline int32_t panels_up_to(const AttentionTile& tile, int32_t limit) {
  if (limit <= 0) return 0;
  const int32_t page = (limit - 1) / tile.page_size, offset = (limit - 1) % tile.page_size;
  return page * tile.page_panels + offset / kPanelKeys + 1;
}

/// Keys that a query of the tile sees.
inline int32_t limit_of(const AttentionTile& tile, int32_t query) {
  return tile.first_limit + tile.limit_step * query;
}

/// The running softmax of a row over the blocks of a chunk.
struct RowState {
  float* max_log2;
  float* decay;  // what a block's new maximum makes of the sums so far
  float* sums;   // [16] sums of the weights, one a lane
};

/// The maximum moves only when a score exceeds it by more than this: weights then reach 2^8, which costs no
/// precision and saves most of the reductions and rescalings.
constexpr float kSlackLog2 = 8.0f;

/// Online softmax of one row over a block: scores [panels * 16] become weights, maximum and sums move on.
/// What a row gets depends on no other row: a block that it does not see leaves it as it is, exactly (decay
/// 2^0, weights 0). `Weights::store(Weight*, V::T[16 / kWidth])` rounds a panel; kBf16 says to what.
template <class V, class Weights>
struct RowSoftmax {
  using Weight = typename Weights::Weight;
  static constexpr int kPer = kPanelKeys / V::kWidth;

  static constexpr int32_t kPanelsBetween = 8;

  /// Calls between() before every kPanelsBetween panels of weights: the place for work of other execution
  /// units.
  template <class Between>
  static void run(const KeyBlock& block, int32_t limit, float* scores, Weight* weights, RowState row,
                  const Between& between) {
    if (!block.whole || limit < block.end) mask(block, limit, scores);
    const int32_t count = block.panels * kPanelKeys;

    typename V::T highest[kPer];
    for (int32_t c = 0; c < kPer; ++c) highest[c] = V::set1(kLowest);
    for (int32_t at = 0; at < count; at += kPanelKeys) {
      for (int32_t c = 0; c < kPer; ++c)
        highest[c] = V::max(highest[c], V::load(scores + at + c * V::kWidth));
    }
    for (int32_t c = 1; c < kPer; ++c) highest[0] = V::max(highest[0], highest[c]);
    float decay = 1.0f;
    if (V::any_above(highest[0], *row.max_log2 + kSlackLog2)) {
      const float new_max = V::max_lane(highest[0]);
      decay = exp2_scalar<V>(*row.max_log2 - new_max);
      *row.max_log2 = new_max;
    }
    *row.decay = decay;

    const auto m = V::set1(*row.max_log2);
    typename V::T sum[kPer];
    for (int32_t c = 0; c < kPer; ++c) sum[c] = V::mul(V::set1(decay), V::load(row.sums + c * V::kWidth));
    for (int32_t begin = 0; begin < count; begin += kPanelsBetween * kPanelKeys) {
      between();
      const int32_t end = at_most(begin + kPanelsBetween * kPanelKeys, count);
#pragma GCC unroll 2
      for (int32_t at = begin; at < end; at += kPanelKeys) {
        typename V::T w[kPer];
        for (int32_t c = 0; c < kPer; ++c) {
          w[c] = Weights::exp2(V::sub(V::load(scores + at + c * V::kWidth), m));
          sum[c] = V::add(sum[c], w[c]);
        }
        Weights::store(weights + at, w);
      }
    }
    for (int32_t c = 0; c < kPer; ++c) V::store(row.sums + c * V::kWidth, sum[c]);
  }

 private:
  static void mask(const KeyBlock& block, int32_t limit, float* scores) {
    for (int32_t panel = 0; panel < block.panels; ++panel) {
      const int32_t visible = at_most(block.count[panel], limit - block.position[panel]);
      if (visible >= kPanelKeys) continue;
      for (int32_t c = 0; c < kPer; ++c) {
        float* x = scores + panel * kPanelKeys + c * V::kWidth;
        V::store(x, V::keep_below(visible - c * V::kWidth, V::load(x)));
      }
    }
  }
};

inline float sum_lanes(const float* sums) {
  float sum = 0.0f;
  for (int32_t lane = 0; lane < kPanelKeys; ++lane) sum += sums[lane];
  return sum;
}

/// TileKernel::merge and finish, and an empty total.
template <class V>
struct PartialOps {
  static void clear(PartialRows total, int32_t rows, int32_t columns) {
    for (int32_t r = 0; r < rows; ++r) {
      total.max_log2[r] = kLowest;
      total.sum[r] = 0.0f;
    }
    for (int64_t i = 0; i < static_cast<int64_t>(rows) * columns; ++i) total.out[i] = 0.0f;
  }

  static void merge(PartialRows total, PartialRows part, int32_t rows, int32_t columns) {
    for (int32_t r = 0; r < rows; ++r) {
      const float a_max = total.max_log2[r], b_max = part.max_log2[r];
      const float both = a_max > b_max ? a_max : b_max;
      const float a = exp2_scalar<V>(a_max - both), b = exp2_scalar<V>(b_max - both);
      total.max_log2[r] = both;
      total.sum[r] = total.sum[r] * a + part.sum[r] * b;
      float* out = total.out + static_cast<int64_t>(r) * columns;
      const float* add = part.out + static_cast<int64_t>(r) * columns;
      for (int32_t c = 0; c < columns; c += V::kWidth) {
        V::store(out + c, V::fma(V::load(add + c), V::set1(b), V::mul(V::load(out + c), V::set1(a))));
      }
    }
  }

  static void finish(const AttentionTile& tile, PartialRows total, float* out, int64_t out_stride,
                     float* lse_ln, int64_t lse_stride) {
    constexpr float kLn2 = 0x1.62e430p-1f;
    const int32_t columns = round_up(tile.dv, kPanelKeys);
    int32_t r = 0;
    for (int32_t i = 0; i < tile.queries; ++i) {
      for (int32_t h = 0; h < tile.heads; ++h, ++r) {
        const float sum = total.sum[r];
        const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
        const float* from = total.out + static_cast<int64_t>(r) * columns;
        float* to = out + i * out_stride + static_cast<int64_t>(h) * tile.dv;
        for (int32_t c = 0; c < tile.dv; ++c) to[c] = from[c] * inverse;
        if (lse_ln != nullptr) {
          lse_ln[i * lse_stride + h] =
              sum > 0.0f ? total.max_log2[r] * kLn2 + __builtin_logf(sum) : -__builtin_inff();
        }
      }
    }
  }
};

}  // namespace
}  // namespace longspan
