#pragma once

#include "device/cpu/attention_avx512_vec.h"

namespace longspan {
namespace {

/// Softmax weights rounded to bf16, for RowSoftmax.
struct Bf16Weights {
  using Weight = uint16_t;

  /// Like Vec16::exp2, within 3e-6: far below what rounding to bf16 adds.
  static __m512 exp2(__m512 x) {
    const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(0x1.b7f732p-7f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.abf868p-5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.ee2450p-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.62d6c6p-1f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f)), x);
  }
  static void store(uint16_t* weights, const __m512 (&w)[1]) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights), (__m256i)_mm512_cvtneps_pbh(w[0]));
  }
};

/// packed = bf16(q * scale), with a zero after an odd dk.
inline void pack_bf16_row(const float* q, int32_t dk, float scale, uint16_t* packed) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int32_t d = 0; d < dk; d += 16) {
    const int32_t left = dk - d;
    const __mmask16 in = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
    const __mmask16 out = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << (left + left % 2)) - 1);
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(in, q + d), factor);
    _mm256_mask_storeu_epi16(packed + d, out, (__m256i)_mm512_cvtneps_pbh(x));
  }
}

}  // namespace
}  // namespace longspan
