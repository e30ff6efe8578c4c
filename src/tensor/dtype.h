#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace longspan {

enum class DType : uint8_t { kF32, kF16, kBF16, kI32 };

constexpr int64_t size_of(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kI32 ? 4 : 2;
}

/// "f32", "f16", "bf16", "i32".
std::string_view to_string(DType dtype);

/// bf16 is the upper half of an f32; rounding is to nearest even, NaN stays NaN.
inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
float f16_to_f32(uint16_t bits);

/// Element i of an array of `dtype` (F32, F16 or BF16) as f32.
float load_f32(const void* data, DType dtype, int64_t i);

}  // namespace longspan
