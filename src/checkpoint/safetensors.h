#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace longspan {

/// One tensor of a safetensors file.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;   // F32, F16 or BF16
  std::vector<int64_t> shape;  // row-major; empty: a scalar; a zero extent: no bytes
  int64_t begin = 0, end = 0;  // bytes from the start of the file
};

/// The directory of a safetensors file, every claim in it checked against the file's size.
/// Source: https://github.com/huggingface/safetensors#format.
struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // ascending by begin, without gap or overlap, up to the file's end
  int64_t data_begin = 0;            // 8 + header length
};

/// Longest header the format allows, bytes.
constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

/// Pure: `prefix` holds the file's first bytes, all of them or at least those of the header; `file_size` is
/// in bytes; `what` names the file in messages. Throws Error(kUnreadable) for a file that is cut short or
/// lies about itself, Error(kNotSupported) for a dtype other than F32, F16 and BF16.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix, int64_t file_size,
                                           std::string_view what);

/// "[2, 3]".
std::string shape_text(std::span<const int64_t> shape);

}  // namespace longspan
