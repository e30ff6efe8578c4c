#include <immintrin.h>

#include "device/cpu/gemm_body.h"

namespace longspan {
namespace {

struct Vec16 {
  using T = __m512;
  static constexpr int kWidth = 16;
  static T load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, T x) { _mm512_storeu_ps(p, x); }
  static T set1(float x) { return _mm512_set1_ps(x); }
  static T add(T a, T b) { return _mm512_add_ps(a, b); }
};

/// Two inner elements a step: dot products of bf16 pairs.
struct Bf16Pairs {
  using V = Vec16;
  using A = uint16_t;
  using B = uint16_t;
  using Weights = __m512bh;
  static constexpr int64_t kStep = 2;
  static Weights weights(const B* b) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)); }
  static __m512bh value(const A* a) {
    int pair;
    __builtin_memcpy(&pair, a, sizeof(pair));
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
  }
  static __m512 multiply_add(__m512bh x, Weights w, __m512 sum) { return _mm512_dpbf16_ps(sum, x, w); }
};

}  // namespace

void gemm_avx512_bf16(const GemmTile& tile) {
  gemm_panel<FloatBlock<Bf16Pairs>, 6, 4>(tile);
}

}  // namespace longspan
