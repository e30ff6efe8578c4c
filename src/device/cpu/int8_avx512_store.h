#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longspan {
namespace {

inline void store_scaled(float* c, bool accumulate, __m512i sum, const int32_t* corrections, float scale,
                         const float* scales) {
  const __m512i exact = _mm512_sub_epi32(sum, _mm512_loadu_si512(corrections));
  __m512 y =
      _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(scales)));
  if (accumulate) y = _mm512_add_ps(_mm512_loadu_ps(c), y);
  _mm512_storeu_ps(c, y);
}

inline int four_of(const uint8_t* a) {
  int four;
  __builtin_memcpy(&four, a, sizeof(four));
  return four;
}

}  // namespace
}  // namespace longspan
