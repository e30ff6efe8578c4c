#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longspan {
namespace {

/// Sixteen lanes of AVX-512, for the kernel body.
struct Vec16 {
  using T = __m512;
  static constexpr int kWidth = 16;
  static T load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, T x) { _mm512_storeu_ps(p, x); }
  static T set1(float x) { return _mm512_set1_ps(x); }
  static T add(T a, T b) { return _mm512_add_ps(a, b); }
  static T sub(T a, T b) { return _mm512_sub_ps(a, b); }
  static T mul(T a, T b) { return _mm512_mul_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm512_fmadd_ps(a, b, c); }
  static T max(T a, T b) { return _mm512_max_ps(a, b); }
  static T round(T x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static T scale_pow2(T p, T n, T x) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, set1(-126.0f), _CMP_GE_OQ), p, n);
  }
  static T keep_below(int32_t n, T x) {
    const __mmask16 keep = n <= 0 ? 0 : static_cast<__mmask16>(0xffff >> (16 - n));
    return _mm512_mask_mov_ps(set1(-__builtin_inff()), keep, x);
  }
  static float max_lane(T x) { return _mm512_reduce_max_ps(x); }
};

}  // namespace
}  // namespace longspan
