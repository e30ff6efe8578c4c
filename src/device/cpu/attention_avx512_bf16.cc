#include "device/cpu/attention_bf16_rows.h"
#include "device/cpu/attention_tile_body.h"

namespace longspan {
namespace {

/// Pairs of bf16 multiply into f32 sums (vdpbf16ps): queries and softmax weights round to bf16.
struct Bf16Arch {
  using V = Vec16;
  using Query = uint16_t;
  static constexpr int kMaxRows = 96;
  static constexpr bool kFetchesAhead = true;
  static constexpr int kStripRows = 6;
  static constexpr int kStripColumns = 4;
  using Weights = Bf16Weights;

  static int32_t query_columns(int32_t dk) { return round_up(dk, 2); }
  static void pack_row(const float* q, int32_t dk, float scale, uint16_t* packed) {
    pack_bf16_row(q, dk, scale, packed);
  }
  static int64_t block_bytes(int32_t, int32_t) { return 0; }
  static void prepare(const AttentionTile&, KeyBlock&, char*) {}

  static __m512i pair(const uint16_t* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, 4);
    return _mm512_set1_epi32(bits);
  }
  static __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }

  struct Scores {
    const uint16_t* q;
    int32_t columns;
    const KeyBlock& block;
    float* s;
    template <int R, int N>
    void run(int32_t row, int32_t panel) const {
      constexpr int64_t kStride = KeyBlock::kKeys;
      const uint16_t* x = q + static_cast<int64_t>(row) * columns;
      __m512 sum[R][N];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) sum[r][c] = _mm512_setzero_ps();
      }
      for (int32_t d = 0; d < columns; d += 2) {
        __m512i line[N];
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) line[c] = _mm512_load_si512(block.k[panel + c] + d / 2 * kLineBytes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const __m512i two = pair(x + static_cast<int64_t>(r) * columns + d);
#pragma GCC unroll 16
          for (int c = 0; c < N; ++c) sum[r][c] = dot(sum[r][c], two, line[c]);
        }
      }
      float* to = s + row * kStride + panel * kPanelKeys;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) V::store(to + r * kStride + c * kPanelKeys, sum[r][c]);
      }
    }
  };
  static void scores(const uint16_t* q, int32_t rows, int32_t dk, const KeyBlock& block, float* s) {
    for_each_strip<kStripRows, kStripColumns>(rows, block.panels, Scores{q, query_columns(dk), block, s});
  }

  struct WeightedSum {
    const uint16_t* p;
    const KeyBlock& block;
    const float* decay;
    float* o;
    int32_t columns;
    template <int R, int N>
    void run(int32_t row, int32_t column) const {
      constexpr int64_t kStride = KeyBlock::kKeys;
      float* to = o + static_cast<int64_t>(row) * columns + column * kPanelKeys;
      __m512 sum[R][N];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const __m512 x = _mm512_set1_ps(decay[row + r]);
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) {
          sum[r][c] = _mm512_mul_ps(x, V::load(to + static_cast<int64_t>(r) * columns + c * kPanelKeys));
        }
      }
      for (int32_t panel = 0; panel < block.panels; ++panel) {
        const char* v = block.v[panel] + column * block.v_column_bytes;
        const uint16_t* weights = p + row * kStride + panel * kPanelKeys;
        for (int32_t key = 0; key < kPanelKeys; key += 2) {
          __m512i line[N];
#pragma GCC unroll 16
          for (int c = 0; c < N; ++c) {
            line[c] = _mm512_load_si512(v + c * block.v_column_bytes + key / 2 * kLineBytes);
          }
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const __m512i two = pair(weights + r * kStride + key);
#pragma GCC unroll 16
            for (int c = 0; c < N; ++c) sum[r][c] = dot(sum[r][c], two, line[c]);
          }
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c)
          V::store(to + static_cast<int64_t>(r) * columns + c * kPanelKeys, sum[r][c]);
      }
    }
  };
  static void weighted_sum(const uint16_t* p, int32_t rows, int32_t columns, const KeyBlock& block,
                           const float* decay, float* o) {
    for_each_strip<kStripRows, kStripColumns>(rows, columns / kPanelKeys,
                                              WeightedSum{p, block, decay, o, columns});
  }
};

}  // namespace

const TileKernel kAvx512Bf16Kernel = TileBody<Bf16Arch>::kernel();

}  // namespace longspan
