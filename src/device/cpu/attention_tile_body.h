#pragma once

#include <cstdint>

#include "device/cpu/attention_tile.h"

/// The kernel body, instantiated by each instruction set's file. Everything has internal linkage: code
/// compiled for one instruction set must not be picked by the linker for another.
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

/// 2^x for x <= 0, exactly 1 at 0, 0 below -126. Minimax in the fraction: relative error 2e-9 before
/// rounding, so about 1 ulp in all.
template <class V>
inline typename V::T exp2_negative(typename V::T x) {
  const auto n = V::round(x);
  const auto f = V::sub(x, n);
  auto p = V::set1(0x1.41fbbcp-13f);
  p = V::fma(p, f, V::set1(0x1.5f3e54p-10f));
  p = V::fma(p, f, V::set1(0x1.3b2d4cp-7f));
  p = V::fma(p, f, V::set1(0x1.c6aee8p-5f));
  p = V::fma(p, f, V::set1(0x1.ebfbdcp-3f));
  p = V::fma(p, f, V::set1(0x1.62e430p-1f));
  p = V::fma(p, f, V::set1(1.0f));
  return V::scale_pow2(p, n, x);
}

template <class V>
inline float exp2_scalar(float x) {
  alignas(64) float lanes[V::kWidth];
  V::store(lanes, exp2_negative<V>(V::set1(x)));
  return lanes[0];
}

/// Up to kMax panels of consecutive keys, as the multiplies see them.
template <int kMax>
struct KeyBlock {
  const char* k[kMax];  // lines of 16 keys
  const char* v[kMax];  // column 0 of 16
  int64_t v_column_bytes;
  int32_t position[kMax];  // of the panel's first key
  int32_t count[kMax];     // keys that exist, <= 16
  int32_t panels;
  int32_t end;  // position after the last key
  bool whole;   // every panel has 16 keys
};

template <int kMax>
inline void find_panels(const AttentionTile& tile, int32_t begin, int32_t end, KeyBlock<kMax>& block) {
  block.panels = end - begin;
  block.v_column_bytes = tile.v_column_bytes;
  block.whole = true;
  int32_t page = begin / tile.page_panels, in_page = begin % tile.page_panels;
  const int64_t line_keys = tile.v_column_bytes / (tile.page_panels * kLineBytes);  // V lines of a panel
  for (int32_t i = 0; i < block.panels; ++i) {
    const int64_t base = tile.pages[page] * tile.page_bytes;
    block.k[i] = tile.k + base + in_page * tile.k_panel_bytes;
    block.v[i] = tile.v + base + in_page * line_keys * kLineBytes;
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
template <class V, int R, int N, int kMax>
inline void add_weighted(const float* p, int64_t p_stride, const KeyBlock<kMax>& block, int64_t column_offset,
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

/// Calls f.template run<R, N>(row, column) over a grid of `rows` x `columns` in strips of at most kRows rows
/// of nearly equal height and kColumns columns; the columns' operand stays in L1 while the strips pass.
template <int kRows, int kColumns, class F>
inline void for_each_strip(int32_t rows, int32_t columns, const F& f) {
  static_assert(kRows <= 6 && kColumns <= 4);
  const int32_t strips = (rows + kRows - 1) / kRows;
  for (int32_t column = 0; column < columns; column += kColumns) {
    const int32_t n = at_most(kColumns, columns - column);
    for (int32_t i = 0; i < strips; ++i) {
      const int32_t row = rows * i / strips, height = rows * (i + 1) / strips - row;
      const auto with_height = [&]<int N>() {
        switch (height) {
          case 1:
            return f.template run<1, N>(row, column);
          case 2:
            return f.template run<at_most(2, kRows), N>(row, column);
          case 3:
            return f.template run<at_most(3, kRows), N>(row, column);
          case 4:
            return f.template run<at_most(4, kRows), N>(row, column);
          case 5:
            return f.template run<at_most(5, kRows), N>(row, column);
          default:
            return f.template run<at_most(6, kRows), N>(row, column);
        }
      };
      switch (n) {
        case 1:
          with_height.template operator()<1>();
          break;
        case 2:
          with_height.template operator()<at_most(2, kColumns)>();
          break;
        case 3:
          with_height.template operator()<at_most(3, kColumns)>();
          break;
        default:
          with_height.template operator()<at_most(4, kColumns)>();
          break;
      }
    }
  }
}

/// The kernel of one arithmetic. Arch gives:
///   V; kMaxRows, kBlockPanels; Query and Weight, the types of packed queries and of softmax weights;
///   query_columns(dk), in Query;  pack_row(q, dk, scale, packed);  store_weights(Weight*, V::T[16 /
///   kWidth]); block_bytes(dk, dv), prepare(tile, block, space): brings a block into the form of the
///   multiplies; scores(q, rows, dk, block, s);  weighted_sum(p, rows, dv16, block, decay, o).
template <class Arch>
struct TileBody {
  using V = typename Arch::V;
  using Query = typename Arch::Query;
  using Weight = typename Arch::Weight;
  static constexpr int kBlockKeys = Arch::kBlockPanels * kPanelKeys;
  static constexpr int kPer = kPanelKeys / V::kWidth;

  struct Scratch {
    Query* q;      // [kMaxRows, query_columns(dk)]
    float* s;      // [kMaxRows, kBlockKeys] scores, base 2
    Weight* p;     // [kMaxRows, kBlockKeys]
    float* sums;   // [kMaxRows, 16] running sums of the weights, one per lane
    float* decay;  // [kMaxRows] what a block's new maximum makes of the sums so far
    char* block;   // block_bytes
    int64_t bytes;
  };

  static Scratch layout(char* base, int32_t dk, int32_t dv) {
    Scratch s{};
    int64_t used = 0;
    const auto take = [&](int64_t bytes) {
      char* result = base + used;
      used += round_up_bytes(bytes);
      return result;
    };
    constexpr int64_t kRows = Arch::kMaxRows;
    s.q =
        reinterpret_cast<Query*>(take(kRows * Arch::query_columns(dk) * static_cast<int64_t>(sizeof(Query))));
    s.s = reinterpret_cast<float*>(take(kRows * kBlockKeys * 4));
    s.p = reinterpret_cast<Weight*>(take(kRows * kBlockKeys * static_cast<int64_t>(sizeof(Weight))));
    s.sums = reinterpret_cast<float*>(take(kRows * kPanelKeys * 4));
    s.decay = reinterpret_cast<float*>(take(kRows * 4));
    s.block = take(Arch::block_bytes(dk, dv));
    s.bytes = used;
    return s;
  }

  static int64_t scratch_bytes(int32_t dk, int32_t dv) { return layout(nullptr, dk, dv).bytes; }

  static void pack_queries(const AttentionTile& tile, void* scratch) {
    const Scratch s = layout(static_cast<char*>(scratch), tile.dk, tile.dv);
    Query* packed = s.q;
    for (int32_t i = 0; i < tile.queries; ++i) {
      for (int32_t h = 0; h < tile.heads; ++h) {
        Arch::pack_row(tile.q + i * tile.q_stride + static_cast<int64_t>(h) * tile.dk, tile.dk,
                       tile.scale_log2, packed);
        packed += Arch::query_columns(tile.dk);
      }
    }
  }

  static int32_t limit_of(const AttentionTile& tile, int32_t query) {
    return tile.first_limit + tile.limit_step * query;
  }

  /// Panels that hold keys [0, limit).
  static int32_t panels_up_to(const AttentionTile& tile, int32_t limit) {
    if (limit <= 0) return 0;
    const int32_t page = (limit - 1) / tile.page_size, offset = (limit - 1) % tile.page_size;
    return page * tile.page_panels + offset / kPanelKeys + 1;
  }

  static void reduce_chunk(const AttentionTile& tile, int32_t chunk, void* scratch, PartialRows part) {
    const Scratch s = layout(static_cast<char*>(scratch), tile.dk, tile.dv);
    const int32_t rows = tile.queries * tile.heads;
    const int32_t columns = round_up(tile.dv, kPanelKeys);
    clear(part, rows, columns);
    for (int32_t i = 0; i < rows * kPanelKeys; ++i) s.sums[i] = 0.0f;

    const int32_t last =
        at_most((chunk + 1) * kChunkPanels, panels_up_to(tile, limit_of(tile, tile.queries - 1)));
    for (int32_t begin = chunk * kChunkPanels; begin < last; begin += Arch::kBlockPanels) {
      KeyBlock<Arch::kBlockPanels> block;
      find_panels(tile, begin, at_most(begin + Arch::kBlockPanels, last), block);
      Arch::prepare(tile, block, s.block);
      Arch::scores(s.q, rows, tile.dk, block, s.s);
      weigh(tile, block, s, part.max_log2);
      Arch::weighted_sum(s.p, rows, columns, block, s.decay, part.out);
    }
    for (int32_t r = 0; r < rows; ++r) {
      float sum = 0.0f;
      for (int32_t lane = 0; lane < kPanelKeys; ++lane) sum += s.sums[r * kPanelKeys + lane];
      part.sum[r] = sum;
    }
  }

  /// Online softmax over a block: scores become weights, maxima and sums move on. A row's result does not
  /// depend on the others: a block that it does not see leaves it as it is, exactly (decay 2^0, weights 0).
  static void weigh(const AttentionTile& tile, const KeyBlock<Arch::kBlockPanels>& block, const Scratch& s,
                    float* max_log2) {
    int32_t r = 0;
    for (int32_t i = 0; i < tile.queries; ++i) {
      const int32_t limit = limit_of(tile, i);
      const bool sees_all = block.whole && limit >= block.end;
      for (int32_t h = 0; h < tile.heads; ++h, ++r) {
        float* scores = s.s + static_cast<int64_t>(r) * kBlockKeys;
        if (!sees_all) mask_row(block, limit, scores);
        weigh_row(block.panels, scores, s.p + static_cast<int64_t>(r) * kBlockKeys, s.sums + r * kPanelKeys,
                  max_log2[r], s.decay[r]);
      }
    }
  }

  static void mask_row(const KeyBlock<Arch::kBlockPanels>& block, int32_t limit, float* scores) {
    for (int32_t panel = 0; panel < block.panels; ++panel) {
      const int32_t visible = at_most(block.count[panel], limit - block.position[panel]);
      if (visible >= kPanelKeys) continue;
      for (int32_t c = 0; c < kPer; ++c) {
        float* x = scores + panel * kPanelKeys + c * V::kWidth;
        V::store(x, V::keep_below(visible - c * V::kWidth, V::load(x)));
      }
    }
  }

  static void weigh_row(int32_t panels, const float* scores, Weight* weights, float* sums, float& max_log2,
                        float& decay) {
    typename V::T highest[kPer];
    for (int32_t c = 0; c < kPer; ++c) highest[c] = V::set1(max_log2);
    for (int32_t panel = 0; panel < panels; ++panel) {
      for (int32_t c = 0; c < kPer; ++c) {
        highest[c] = V::max(highest[c], V::load(scores + panel * kPanelKeys + c * V::kWidth));
      }
    }
    for (int32_t c = 1; c < kPer; ++c) highest[0] = V::max(highest[0], highest[c]);
    const float new_max = V::max_lane(highest[0]);
    decay = new_max == max_log2 ? 1.0f : exp2_scalar<V>(max_log2 - new_max);
    max_log2 = new_max;

    const auto m = V::set1(new_max);
    typename V::T sum[kPer];
    for (int32_t c = 0; c < kPer; ++c) sum[c] = V::mul(V::set1(decay), V::load(sums + c * V::kWidth));
    for (int32_t panel = 0; panel < panels; ++panel) {
      typename V::T w[kPer];
      for (int32_t c = 0; c < kPer; ++c) {
        w[c] = exp2_negative<V>(V::sub(V::load(scores + panel * kPanelKeys + c * V::kWidth), m));
        sum[c] = V::add(sum[c], w[c]);
      }
      Arch::store_weights(weights + panel * kPanelKeys, w);
    }
    for (int32_t c = 0; c < kPer; ++c) V::store(sums + c * V::kWidth, sum[c]);
  }

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

  static constexpr TileKernel kernel() {
    return {Arch::kMaxRows, scratch_bytes, pack_queries, reduce_chunk, clear, merge, finish};
  }
};

/// f32 arithmetic. Bf16Pages: the pool holds bf16, a block is widened to f32 lines first.
template <class Vector, int kStripRows, int kStripColumns, bool kBf16Pages>
struct F32Arch {
  using V = Vector;
  using Query = float;
  using Weight = float;
  static constexpr int kMaxRows = 96;
  static constexpr int kBlockPanels = 16;
  static constexpr int kPer = kPanelKeys / V::kWidth;
  using Block = KeyBlock<kBlockPanels>;

  static int32_t query_columns(int32_t dk) { return kBf16Pages ? round_up(dk, 2) : dk; }

  static void pack_row(const float* q, int32_t dk, float scale, float* packed) {
    for (int32_t d = 0; d < dk; ++d) packed[d] = q[d] * scale;
    if (query_columns(dk) > dk) packed[dk] = 0.0f;
  }

  static void store_weights(float* weights, const typename V::T (&w)[kPer]) {
    for (int32_t c = 0; c < kPer; ++c) V::store(weights + c * V::kWidth, w[c]);
  }

  static int64_t block_bytes(int32_t dk, int32_t dv) {
    if (!kBf16Pages) return 0;
    return kBlockPanels * (query_columns(dk) + round_up(dv, kPanelKeys)) * kLineBytes;
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

  static void prepare(const AttentionTile& tile, Block& block, char* space) {
    if constexpr (kBf16Pages) {
      const int32_t columns = round_up(tile.dv, kPanelKeys) / kPanelKeys;
      char* v_space = space + kBlockPanels * query_columns(tile.dk) * kLineBytes;
      const int64_t column_bytes = kBlockPanels * kPanelKeys * kLineBytes;
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
    const Block& block;
    float* s;
    template <int R, int N>
    void run(int32_t row, int32_t panel) const {
      constexpr int64_t kStride = kBlockPanels * kPanelKeys;
      dot_panels<V, R, N>(q + static_cast<int64_t>(row) * columns, columns, columns, block.k + panel,
                          s + row * kStride + panel * kPanelKeys, kStride);
    }
  };
  static void scores(const float* q, int32_t rows, int32_t dk, const Block& block, float* s) {
    for_each_strip<kStripRows, kStripColumns>(rows, block.panels, Scores{q, query_columns(dk), block, s});
  }

  struct WeightedSum {
    const float* p;
    const Block& block;
    const float* decay;
    float* o;
    int32_t columns;
    template <int R, int N>
    void run(int32_t row, int32_t column) const {
      constexpr int64_t kStride = kBlockPanels * kPanelKeys;
      add_weighted<V, R, N>(p + row * kStride, kStride, block, column * block.v_column_bytes, decay + row,
                            o + static_cast<int64_t>(row) * columns + column * kPanelKeys, columns);
    }
  };
  static void weighted_sum(const float* p, int32_t rows, int32_t columns, const Block& block,
                           const float* decay, float* o) {
    for_each_strip<kStripRows, kStripColumns>(rows, columns / kPanelKeys,
                                              WeightedSum{p, block, decay, o, columns});
  }
};

}  // namespace
}  // namespace longspan
