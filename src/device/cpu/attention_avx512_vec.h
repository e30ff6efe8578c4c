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
  /// 2^(x - floor(x)) by a polynomial (relative error 2e-9 before rounding), scaled by 2^floor(x).
  static T exp2(T x) {
    const T f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    T p = set1(0x1.c54174p-13f);
    p = fma(p, f, set1(0x1.46d64cp-10f));
    p = fma(p, f, set1(0x1.3d0b92p-7f));
    p = fma(p, f, set1(0x1.c68912p-5f));
    p = fma(p, f, set1(0x1.ebfd58p-3f));
    p = fma(p, f, set1(0x1.62e42cp-1f));
    return _mm512_scalef_ps(fma(p, f, set1(1.0f)), x);
  }
  static T keep_below(int32_t n, T x) {
    const __mmask16 keep = n <= 0 ? 0 : static_cast<__mmask16>(0xffff >> (16 - n));
    return _mm512_mask_mov_ps(set1(-__builtin_inff()), keep, x);
  }
  static bool any_above(T x, float limit) { return _mm512_cmp_ps_mask(x, set1(limit), _CMP_GT_OQ) != 0; }
  static float max_lane(T x) { return _mm512_reduce_max_ps(x); }
};

}  // namespace
}  // namespace longspan
