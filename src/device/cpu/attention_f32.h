#pragma once

#include <cstdint>

#include "device/cpu/attention_tile_body.h"

namespace longspan {
namespace {

/// S[R, N * 16] = Q[R, dk] times N panels of K, lines of f32.
template <class V, int R, int N>
inline void dot_panels(const float* q, int64_t q_stride, int32_t dk, const char* const* k, float* s,
                       int64_t s_stride) {
  constexpr int kPer = kPanelKeys / V::kWidth;
  typename V::T sum[R][N * kPer];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < N * kPer; ++c) sum[r][c] = V::set1(0.0f);
  }
  for (int32_t d = 0; d < dk; ++d) {
    typename V::T line[N * kPer];
#pragma GCC unroll 16
    for (int c = 0; c < N * kPer; ++c) {
      line[c] = V::load(reinterpret_cast<const float*>(k[c / kPer] + d * kLineBytes) + c % kPer * V::kWidth);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto x = V::set1(q[r * q_stride + d]);
#pragma GCC unroll 16
      for (int c = 0; c < N * kPer; ++c) sum[r][c] = V::fma(x, line[c], sum[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < N * kPer; ++c) V::store(s + r * s_stride + c * V::kWidth, sum[r][c]);
  }
}

/// O[R, N * 16] = O * decay[R] + P[R, panels * 16] times N columns of V, lines of f32.
template <class V, int R, int N>
inline void add_weighted(const float* p, int64_t p_stride, const KeyBlock& block, int64_t column_offset,
                         const float* decay, float* o, int64_t o_stride) {
  constexpr int kPer = kPanelKeys / V::kWidth;
  typename V::T sum[R][N * kPer];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto x = V::set1(decay[r]);
#pragma GCC unroll 16
    for (int c = 0; c < N * kPer; ++c) sum[r][c] = V::mul(x, V::load(o + r * o_stride + c * V::kWidth));
  }
  for (int32_t panel = 0; panel < block.panels; ++panel) {
    const char* v = block.v[panel] + column_offset;
    const float* weights = p + panel * kPanelKeys;
    for (int32_t key = 0; key < kPanelKeys; ++key) {
      typename V::T line[N * kPer];
#pragma GCC unroll 16
      for (int c = 0; c < N * kPer; ++c) {
        line[c] =
            V::load(reinterpret_cast<const float*>(v + c / kPer * block.v_column_bytes + key * kLineBytes) +
                    c % kPer * V::kWidth);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const auto x = V::set1(weights[r * p_stride + key]);
#pragma GCC unroll 16
        for (int c = 0; c < N * kPer; ++c) sum[r][c] = V::fma(x, line[c], sum[r][c]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < N * kPer; ++c) V::store(o + r * o_stride + c * V::kWidth, sum[r][c]);
  }
}

/// f32 arithmetic. Bf16Pages: the pool holds bf16, a block is widened to f32 lines first.
template <class Vector, int kStripRows, int kStripColumns, bool kBf16Pages>
struct F32Arch {
  using V = Vector;
  using Query = float;
  static constexpr int kMaxRows = 96;
  static constexpr bool kFetchesAhead = false;

  struct Weights {
    using Weight = float;
    static constexpr int kPer = kPanelKeys / V::kWidth;
    static typename V::T exp2(typename V::T x) { return V::exp2(x); }
    static void store(float* weights, const typename V::T (&w)[kPer]) {
      for (int32_t c = 0; c < kPer; ++c) V::store(weights + c * V::kWidth, w[c]);
    }
  };

  static int32_t query_columns(int32_t dk) { return kBf16Pages ? round_up(dk, 2) : dk; }

  static void pack_row(const float* q, int32_t dk, float scale, float* packed) {
    for (int32_t d = 0; d < dk; ++d) packed[d] = q[d] * scale;
    if (query_columns(dk) > dk) packed[dk] = 0.0f;
  }

  static int64_t block_bytes(int32_t dk, int32_t dv) {
    if (!kBf16Pages) return 0;
    return KeyBlock::kPanels * (query_columns(dk) + round_up(dv, kPanelKeys)) * kLineBytes;
  }

  /// Lines of 16 pairs to twice as many lines of 16 floats.
  static void widen(const char* from, int32_t lines, char* to) {
    for (int32_t i = 0; i < lines; ++i) {
      const auto* pairs = reinterpret_cast<const uint32_t*>(from + i * kLineBytes);
      auto* first = reinterpret_cast<uint32_t*>(to + 2 * i * kLineBytes);
      for (int32_t lane = 0; lane < kPanelKeys; ++lane) {
        first[lane] = pairs[lane] << 16;
        first[lane + kPanelKeys] = pairs[lane] & 0xffff0000u;
      }
    }
  }

  static void prepare(const AttentionTile& tile, KeyBlock& block, char* space) {
    if constexpr (kBf16Pages) {
      const int32_t columns = round_up(tile.dv, kPanelKeys) / kPanelKeys;
      char* v_space = space + KeyBlock::kPanels * query_columns(tile.dk) * kLineBytes;
      const int64_t column_bytes = KeyBlock::kPanels * kPanelKeys * kLineBytes;
      for (int32_t i = 0; i < block.panels; ++i) {
        char* k = space + i * query_columns(tile.dk) * kLineBytes;
        widen(block.k[i], query_columns(tile.dk) / 2, k);
        block.k[i] = k;
        char* v = v_space + i * kPanelKeys * kLineBytes;
        for (int32_t c = 0; c < columns; ++c) {
          widen(block.v[i] + c * block.v_column_bytes, kPanelKeys / 2, v + c * column_bytes);
        }
        block.v[i] = v;
      }
      block.v_column_bytes = column_bytes;
    }
  }

  struct Scores {
    const float* q;
    int32_t columns;
    const KeyBlock& block;
    float* s;
    template <int R, int N>
    void run(int32_t row, int32_t panel) const {
      constexpr int64_t kStride = KeyBlock::kKeys;
      dot_panels<V, R, N>(q + static_cast<int64_t>(row) * columns, columns, columns, block.k + panel,
                          s + row * kStride + panel * kPanelKeys, kStride);
    }
  };
  static void scores(const float* q, int32_t rows, int32_t dk, const KeyBlock& block, float* s) {
    for_each_strip<kStripRows, kStripColumns>(rows, block.panels, Scores{q, query_columns(dk), block, s});
  }

  struct WeightedSum {
    const float* p;
    const KeyBlock& block;
    const float* decay;
    float* o;
    int32_t columns;
    template <int R, int N>
    void run(int32_t row, int32_t column) const {
      constexpr int64_t kStride = KeyBlock::kKeys;
      add_weighted<V, R, N>(p + row * kStride, kStride, block, column * block.v_column_bytes, decay + row,
                            o + static_cast<int64_t>(row) * columns + column * kPanelKeys, columns);
    }
  };
  static void weighted_sum(const float* p, int32_t rows, int32_t columns, const KeyBlock& block,
                           const float* decay, float* o) {
    for_each_strip<kStripRows, kStripColumns>(rows, columns / kPanelKeys,
                                              WeightedSum{p, block, decay, o, columns});
  }
};

}  // namespace
}  // namespace longspan
