#pragma once

#include <cstddef>
#include <span>

#include "base/check.h"
#include "tensor/matrix.h"

namespace longspan {

/// The elements of a matrix whose rows lie without gaps, for a collective.
inline std::span<std::byte> bytes_of(Matrix m) {
  check(m.rows <= 1 || m.row_stride == m.cols, "rows that travel have no gaps");
  return {static_cast<std::byte*>(m.data), static_cast<size_t>(m.rows * m.cols * size_of(m.dtype))};
}
inline std::span<float> floats_of(Matrix m) {
  const std::span<std::byte> bytes = bytes_of(m);
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace longspan
