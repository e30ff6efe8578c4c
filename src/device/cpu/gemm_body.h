#pragma once

// Included by the gemm_*.cc, which are compiled for different instruction sets: internal linkage throughout.

#include "device/cpu/gemm_strips.h"

namespace longspan {
namespace {

/// R rows by N vectors of columns, all of k, with the sums in registers. Arch gives V (load, store, set1,
/// add), A and B (element types), kStep (inner elements a step takes), and
///   weights(b): a vector of columns of one step;  value(a): one row's step in every lane;
///   multiply_add(value, weights, sum).
template <class Arch>
struct FloatBlock {
  static constexpr int64_t kWidth = Arch::V::kWidth;
  static constexpr int64_t kStep = Arch::kStep;
  template <int R, int N>
  static inline void run(const GemmTile& t, int64_t row, int64_t column, NextPanel next) {
    using V = typename Arch::V;
    constexpr int64_t kAhead = 2048 / sizeof(typename Arch::B);  // hardware prefetch stops at each 4 KiB
    const auto* a = static_cast<const typename Arch::A*>(t.a) + row * t.a_stride;
    const auto* b = static_cast<const typename Arch::B*>(t.b) + column * Arch::kStep;
    typename V::T sum[R][N], total[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) total[r][n] = V::set1(0.0f);
    const int64_t block = sum_block(t.k);
    for (int64_t begin = 0; begin < t.k; begin += block) {
      const int64_t end = begin + block < t.k ? begin + block : t.k;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[r][n] = V::set1(0.0f);
      for (int64_t k = begin; k < end; k += Arch::kStep, b += kPanelColumns * Arch::kStep) {
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.stride;
        typename Arch::Weights w[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
          w[n] = Arch::weights(b + n * kWidth * Arch::kStep);
          __builtin_prefetch(b + n * kWidth * Arch::kStep + kAhead);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const auto x = Arch::value(a + r * t.a_stride + k);
#pragma GCC unroll 16
          for (int n = 0; n < N; ++n) sum[r][n] = Arch::multiply_add(x, w[n], sum[r][n]);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) total[r][n] = V::add(total[r][n], sum[r][n]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* c = t.c + (row + r) * t.c_stride + column;
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n)
        V::store(c + n * kWidth, t.accumulate ? V::add(V::load(c + n * kWidth), total[r][n]) : total[r][n]);
    }
  }
};

template <class Vec>
struct F32Weights {
  using V = Vec;
  using A = float;
  using B = float;
  using Weights = typename V::T;
  static constexpr int64_t kStep = 1;
  static Weights weights(const B* b) { return V::load(b); }
  static typename V::T value(const A* a) { return V::set1(*a); }
  static typename V::T multiply_add(typename V::T x, Weights w, typename V::T sum) {
    return V::fma(x, w, sum);
  }
};

template <class Vec>
struct Bf16WeightsAsF32 : F32Weights<Vec> {
  using B = uint16_t;
  static typename Vec::T weights(const B* b) { return Vec::load_bf16(b); }
};

template <class Vec, int R, int N>
constexpr GemmKernels f32_kernels() {
  return {gemm_panel<FloatBlock<F32Weights<Vec>>, R, N>, gemm_panel<FloatBlock<Bf16WeightsAsF32<Vec>>, R, N>,
          nullptr, nullptr};
}

}  // namespace
}  // namespace longspan
