#pragma once

#include <cstdint>

namespace longspan {

constexpr float kLeastQuantized = 1e-30f;                  // below, 127 / max would overflow
constexpr int64_t kMostQuantizedInner = int64_t{1} << 17;  // inner elements whose sum fits an int32

}  // namespace longspan
