#include <immintrin.h>

#include "device/cpu/gemm_int8_body.h"

namespace longspan {
namespace {

/// Widened to 16 bits, where the pairs' sums can't saturate. A vector of sums is kept as two of half-sums.
struct Avx2 {
  static constexpr int kWidth = 8;
  struct I {
    __m256i low, high;  // columns 0..3 and 4..7, two sums each
  };
  struct Weights {
    __m256i low, high;
  };
  static I zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Weights weights(const int8_t* b) {
    const auto* p = reinterpret_cast<const __m128i*>(b);
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(p)), _mm256_cvtepi8_epi16(_mm_loadu_si128(p + 1))};
  }
  static __m256i value(const uint8_t* a) {
    int four;
    __builtin_memcpy(&four, a, sizeof(four));
    return _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
  }
  static I multiply_add(__m256i x, Weights w, I sum) {
    return {_mm256_add_epi32(sum.low, _mm256_madd_epi16(x, w.low)),
            _mm256_add_epi32(sum.high, _mm256_madd_epi16(x, w.high))};
  }
  static void store(float* c, bool accumulate, I sum, const int32_t* corrections, float scale,
                    const float* scales) {
    const __m256i paired = _mm256_hadd_epi32(sum.low, sum.high);  // columns 0 1 4 5 | 2 3 6 7
    const __m256i whole = _mm256_permute4x64_epi64(paired, 0xd8);
    const __m256i exact =
        _mm256_sub_epi32(whole, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(corrections)));
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(exact),
                             _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(scales)));
    if (accumulate) y = _mm256_add_ps(_mm256_loadu_ps(c), y);
    _mm256_storeu_ps(c, y);
  }
};

}  // namespace

void gemm_avx2_int8(const GemmTile& tile) {
  gemm_panel<Int8Block<Avx2>, 4, 1>(tile);
}

}  // namespace longspan
