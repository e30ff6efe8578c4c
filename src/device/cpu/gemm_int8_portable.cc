#include "device/cpu/gemm_int8_body.h"

namespace longspan {
namespace {

struct Lanes {
  static constexpr int kWidth = 4;
  struct I {
    uint32_t lane[4];  // wraps, as the vector instructions do: the corrected sum fits
  };
  struct Weights {
    int8_t q[16];
  };
  struct Value {
    uint8_t q[4];
  };
  static I zero() { return {}; }
  static Weights weights(const int8_t* b) {
    Weights w;
    __builtin_memcpy(w.q, b, sizeof(w.q));
    return w;
  }
  static Value value(const uint8_t* a) { return {{a[0], a[1], a[2], a[3]}}; }
  static I multiply_add(Value x, const Weights& w, I sum) {
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) sum.lane[i] += static_cast<uint32_t>(int32_t{x.q[j]} * w.q[i * 4 + j]);
    return sum;
  }
  static void store(float* c, bool accumulate, I sum, const int32_t* corrections, float scale,
                    const float* scales) {
    for (int i = 0; i < 4; ++i) {
      const auto exact = static_cast<int32_t>(sum.lane[i] - static_cast<uint32_t>(corrections[i]));
      const float y = static_cast<float>(exact) * (scale * scales[i]);
      c[i] = accumulate ? c[i] + y : y;
    }
  }
};

}  // namespace

void gemm_portable_int8(const GemmTile& tile) {
  gemm_panel<Int8Block<Lanes>, 4, 2>(tile);
}

}  // namespace longspan
