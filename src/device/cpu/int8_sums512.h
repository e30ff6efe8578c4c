#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longspan {
namespace {

/// What the int8 kernels on 512-bit vectors share: 16 sums a vector, and how they are stored.
struct Int8Sums512 {
  static constexpr int kWidth = 16;
  using I = __m512i;
  static I zero() { return _mm512_setzero_si512(); }
  static void store(float* c, bool accumulate, I sum, const int32_t* corrections, float scale,
                    const float* scales) {
    const __m512i exact = _mm512_sub_epi32(sum, _mm512_loadu_si512(corrections));
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(exact),
                             _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(scales)));
    if (accumulate) y = _mm512_add_ps(_mm512_loadu_ps(c), y);
    _mm512_storeu_ps(c, y);
  }
};

inline int four_of(const uint8_t* a) {
  int four;
  __builtin_memcpy(&four, a, sizeof(four));
  return four;
}

}  // namespace
}  // namespace longspan
