#include <immintrin.h>

#include "device/cpu/gemm_kernels.h"

namespace longspan {
namespace {

constexpr int64_t kPanelColumns = 64;
constexpr int64_t kTile = 16;  // rows and columns of a tile of c
constexpr int64_t kInner = 32;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Rows of a 32-column product to c, as many as there are.
inline void store_rows(const GemmTile& t, const float* product, int64_t row, int64_t rows, int64_t column) {
  for (int64_t r = 0; r < rows; ++r) {
    float* c = t.c + (row + r) * t.c_stride + column;
    for (int64_t i = 0; i < 2 * kTile; i += kTile) {
      __m512 sum = _mm512_load_ps(product + r * 2 * kTile + i);
      if (t.accumulate) sum = _mm512_add_ps(_mm512_loadu_ps(c + i), sum);
      _mm512_storeu_ps(c + i, sum);
    }
  }
}

/// 32 (Pair) or 16 rows by 32 columns: tiles 0..3 are sums, 4 and 5 rows of a, 6 and 7 columns of b.
template <bool Pair>
inline void block(const GemmTile& t, int64_t row, int64_t column) {
  const auto* a = static_cast<const uint16_t*>(t.a) + row * t.a_stride;
  const auto* b = static_cast<const uint16_t*>(t.b) + column * 2;
  const int64_t a_bytes = t.a_stride * 2, b_bytes = kPanelColumns * 4;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (Pair) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < t.k; k += kInner, a += kInner, b += kInner * kPanelColumns) {
    _tile_loadd(6, b, b_bytes);
    _tile_loadd(4, a, a_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTile * 2, b_bytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (Pair) {
      _tile_loadd(5, a + kTile * t.a_stride, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  constexpr int64_t kProductBytes = 2 * kTile * 4;
  alignas(64) float product[2 * kTile * 2 * kTile];
  _tile_stored(0, product, kProductBytes);
  _tile_stored(1, product + kTile, kProductBytes);
  if constexpr (Pair) {
    _tile_stored(2, product + kTile * 2 * kTile, kProductBytes);
    _tile_stored(3, product + kTile * 2 * kTile + kTile, kProductBytes);
  }
  const int64_t left = t.rows - row, most = Pair ? 2 * kTile : kTile;
  store_rows(t, product, row, left < most ? left : most, column);
}

}  // namespace

void gemm_amx_bf16(const GemmTile& t) {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
  for (int64_t column = 0; column < kPanelColumns; column += 2 * kTile) {
    int64_t row = 0;
    for (; t.rows - row > kTile; row += 2 * kTile) block<true>(t, row, column);
    if (row < t.rows) block<false>(t, row, column);
  }
  _tile_release();
}

}  // namespace longspan
