#include "device/cpu/gemm_body.h"

namespace longspan {
namespace {

/// Four lanes that any compiler maps to whatever the machine has.
struct Vec4 {
  struct T {
    float lane[4];
  };
  static constexpr int kWidth = 4;
  static T load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static T load_bf16(const uint16_t* p) {
    T x;
    for (int i = 0; i < 4; ++i) x.lane[i] = __builtin_bit_cast(float, static_cast<uint32_t>(p[i]) << 16);
    return x;
  }
  static void store(float* p, T x) {
    for (int i = 0; i < 4; ++i) p[i] = x.lane[i];
  }
  static T set1(float x) { return {{x, x, x, x}}; }
  static T add(T a, T b) {
    for (int i = 0; i < 4; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static T fma(T a, T b, T c) {
    for (int i = 0; i < 4; ++i) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
  }
};

}  // namespace

const GemmKernels kGemmPortable = f32_kernels<Vec4, 4, 2>();

}  // namespace longspan
