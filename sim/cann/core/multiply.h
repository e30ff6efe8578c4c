#pragma once

#include <cstdint>

namespace cann_sim {

/// c [m, n] = a [m, k] b [k, n] in f32, all row-major without gaps. A row of c does not depend on the others.
void multiply(const float* a, const float* b, float* c, int64_t m, int64_t k, int64_t n);

}  // namespace cann_sim
