#include "device/cpu/gemm_int8_body.h"
#include "device/cpu/int8_sums512.h"

namespace longspan {
namespace {

struct Vnni : Int8Sums512 {
  using Weights = __m512i;
  static Weights weights(const int8_t* b) { return _mm512_loadu_si512(b); }
  static __m512i value(const uint8_t* a) { return _mm512_set1_epi32(four_of(a)); }
  static I multiply_add(__m512i x, Weights w, I sum) {
    // The intrinsic makes GCC 12 copy every sum before and after.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
};

}  // namespace

void gemm_avx512_vnni(const GemmTile& tile) {
  gemm_panel<Int8Block<Vnni>, 6, 4>(tile);
}

}  // namespace longspan
