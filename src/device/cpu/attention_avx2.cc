#include <immintrin.h>

#include "device/cpu/attention_f32.h"

namespace longspan {
namespace {

struct Vec8 {
  using T = __m256;
  static constexpr int kWidth = 8;
  static T load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, T x) { _mm256_storeu_ps(p, x); }
  static T set1(float x) { return _mm256_set1_ps(x); }
  static T add(T a, T b) { return _mm256_add_ps(a, b); }
  static T sub(T a, T b) { return _mm256_sub_ps(a, b); }
  static T mul(T a, T b) { return _mm256_mul_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm256_fmadd_ps(a, b, c); }
  static T max(T a, T b) { return _mm256_max_ps(a, b); }
  static T round(T x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static T scale_pow2(T p, T n, T x) {
    const T seen = _mm256_cmp_ps(x, set1(-126.0f), _CMP_GE_OQ);
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_and_ps(seen, mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))));
  }
  static T keep_below(int32_t n, T x) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
    return _mm256_blendv_ps(set1(-__builtin_inff()), x, _mm256_castsi256_ps(keep));
  }
  static T exp2(T x) { return exp2_by_rounding<Vec8>(x); }
  static bool any_above(T x, float limit) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, set1(limit), _CMP_GT_OQ)) != 0;
  }
  static float max_lane(T x) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
  }
};

template <bool kBf16Pages>
using Kernel = TileBody<F32Arch<Vec8, 6, 1, kBf16Pages>>;

}  // namespace

const IsaKernels kAvx2Kernels = {Kernel<false>::kernel(), Kernel<true>::kernel()};

}  // namespace longspan
