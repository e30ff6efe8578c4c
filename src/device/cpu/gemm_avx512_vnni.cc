#include "device/cpu/gemm_int8_body.h"
#include "device/cpu/int8_avx512_store.h"

namespace longspan {
namespace {

struct Vnni {
  static constexpr int kWidth = 16;
  using I = __m512i;
  using Weights = __m512i;
  static I zero() { return _mm512_setzero_si512(); }
  static Weights weights(const int8_t* b) { return _mm512_loadu_si512(b); }
  static __m512i value(const uint8_t* a) { return _mm512_set1_epi32(four_of(a)); }
  static I multiply_add(__m512i x, Weights w, I sum) {
    // The intrinsic makes GCC 12 copy every sum before and after.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
  static void store(float* c, bool accumulate, I sum, const int32_t* corrections, float scale,
                    const float* scales) {
    store_scaled(c, accumulate, sum, corrections, scale, scales);
  }
};

}  // namespace

void gemm_avx512_vnni(const GemmTile& tile) {
  int8_panel<Vnni, 6, 4>(tile);
}

}  // namespace longspan
