#include "device/cpu/attention_f32.h"

namespace longspan {
namespace {

/// Four lanes by the compiler's vector extension: SSE2, NEON or plain code.
struct Vec4 {
  typedef float T __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;
  static constexpr float kRound = 0x1.8p23f;  // adding it drops the fraction, to nearest even

  static T load(const float* p) { return *reinterpret_cast<const T*>(p); }
  static void store(float* p, T x) { *reinterpret_cast<T*>(p) = x; }
  static T set1(float x) { return T{x, x, x, x}; }
  static T add(T a, T b) { return a + b; }
  static T sub(T a, T b) { return a - b; }
  static T mul(T a, T b) { return a * b; }
  static T fma(T a, T b, T c) {
#if defined(__FP_FAST_FMAF) || defined(__aarch64__)
    return T{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]),
             __builtin_fmaf(a[2], b[2], c[2]), __builtin_fmaf(a[3], b[3], c[3])};
#else
    return a * b + c;
#endif
  }
  static T max(T a, T b) {
    return a > b ? a : b;
  }
  static T round(T x) {
    return x + kRound - kRound;
  }
  static T scale_pow2(T p, T n, T x) {
    const I seen = x >= -126.0f;
    const I exponent = (__builtin_convertvector(seen ? n : set1(0.0f), I) + 127) << 23;
    return seen ? p * reinterpret_cast<T>(exponent) : set1(0.0f);
  }
  static T keep_below(int32_t n, T x) {
    const I lane = {0, 1, 2, 3};
    return lane < n ? x : set1(-__builtin_inff());
  }
  static T exp2(T x) {
    return exp2_by_rounding<Vec4>(x);
  }
  static bool any_above(T x, float limit) {
    return max_lane(x) > limit;
  }
  static float max_lane(T x) {
    const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
  }
};

template <bool kBf16Pages>
using Kernel = TileBody<F32Arch<Vec4, 2, 1, kBf16Pages>>;

}  // namespace

const IsaKernels kPortableKernels = {Kernel<false>::kernel(), Kernel<true>::kernel()};

}  // namespace longspan
