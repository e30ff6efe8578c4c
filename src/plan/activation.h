#pragma once

#include <cstdint>

namespace longspan {

constexpr int64_t kFloat = sizeof(float);  // bytes of an activation, which is f32 where it travels

}  // namespace longspan
