#pragma once

// Included by the kernels for int8, which are compiled for different instruction sets: internal linkage
// throughout.

#include "device/cpu/gemm_strips.h"

namespace longspan {
namespace {

/// R rows by N vectors of columns, all of k, with the integer sums in registers. Arch gives I (a vector of
/// kWidth sums), Weights, zero(), weights(b), value(a): four elements of a row in every lane, multiply_add,
/// and store(c, accumulate, sums, corrections, row scale, column scales).
template <class Arch>
struct Int8Block {
  static constexpr int64_t kWidth = Arch::kWidth;
  static constexpr int64_t kStep = 4;
  template <int R, int N>
  static inline void run(const GemmTile& t, int64_t row, int64_t column, NextPanel next) {
    const auto* a = static_cast<const uint8_t*>(t.a) + row * t.a_stride;
    const auto* panel = static_cast<const int8_t*>(t.b);
    const auto* scales = reinterpret_cast<const float*>(panel + t.k * kPanelColumns);
    const auto* corrections = reinterpret_cast<const int32_t*>(scales + kPanelColumns);
    const int8_t* b = panel + column * 4;
    typename Arch::I sum[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) sum[r][n] = Arch::zero();
    for (int64_t k = 0; k < t.k; k += 4, b += kPanelColumns * 4) {
      __builtin_prefetch(next.at, 0, 2);
      next.at += next.stride;
      typename Arch::Weights w[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        w[n] = Arch::weights(b + n * kWidth * 4);
        __builtin_prefetch(b + n * kWidth * 4 + 2048);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const auto x = Arch::value(a + r * t.a_stride + k);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[r][n] = Arch::multiply_add(x, w[n], sum[r][n]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float scale;
      __builtin_memcpy(&scale, a + r * t.a_stride + t.k, sizeof(scale));
      float* c = t.c + (row + r) * t.c_stride + column;
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n)
        Arch::store(c + n * kWidth, t.accumulate, sum[r][n], corrections + column + n * kWidth, scale,
                    scales + column + n * kWidth);
    }
  }
};

}  // namespace
}  // namespace longspan
