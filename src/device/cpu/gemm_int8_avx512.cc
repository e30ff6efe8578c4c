#include "device/cpu/gemm_int8_body.h"
#include "device/cpu/int8_sums512.h"

namespace longspan {
namespace {

/// Even and odd elements apart, widened to 16 bits in place, where the pairs' sums can't saturate.
struct Avx512 : Int8Sums512 {
  struct Weights {
    __m512i even, odd;
  };
  using Value = Weights;
  static Weights weights(const int8_t* b) {
    const __m512i w = _mm512_loadu_si512(b);
    return {_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), _mm512_srai_epi16(w, 8)};
  }
  static Value value(const uint8_t* a) {
    const auto four = static_cast<uint32_t>(four_of(a));
    return {_mm512_set1_epi32(static_cast<int>(four & 0x00ff00ffu)),
            _mm512_set1_epi32(static_cast<int>(four >> 8 & 0x00ff00ffu))};
  }
  static I multiply_add(Value x, Weights w, I sum) {
    return _mm512_add_epi32(
        sum, _mm512_add_epi32(_mm512_madd_epi16(x.even, w.even), _mm512_madd_epi16(x.odd, w.odd)));
  }
};

}  // namespace

void gemm_avx512_int8(const GemmTile& tile) {
  gemm_panel<Int8Block<Avx512>, 8, 2>(tile);
}

}  // namespace longspan
