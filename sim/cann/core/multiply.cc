#include "core/multiply.h"

#include <algorithm>

namespace cann_sim {

void multiply(const float* a, const float* b, float* c, int64_t m, int64_t k, int64_t n) {
  std::fill(c, c + m * n, 0.0f);
  for (int64_t row = 0; row < m; ++row) {
    float* out = c + row * n;
    for (int64_t i = 0; i < k; ++i) {
      const float factor = a[row * k + i];
      const float* from = b + i * n;
      for (int64_t j = 0; j < n; ++j) out[j] += factor * from[j];
    }
  }
}

}  // namespace cann_sim
