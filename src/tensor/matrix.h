#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace longspan {

/// A view of `rows` x `cols` elements on some device; row r starts `r * row_stride` elements after `data`.
/// Owns nothing. Activations are matrices [T, features]; heads lie side by side within a row: [T, heads * D].
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements, >= cols

  template <class T>
  T* row(int64_t r) const {
    return static_cast<T*>(data) + r * row_stride;
  }
  float* f32(int64_t r) const { return row<float>(r); }

  Matrix slice_rows(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + begin * row_stride * size_of(dtype), dtype, count, cols, row_stride};
  }
  Matrix slice_cols(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + begin * size_of(dtype), dtype, rows, count, row_stride};
  }
};

/// A read-only weight in host memory, as a checkpoint holds it: [rows, cols] row-major without gaps
/// (a vector has rows 1). Slicing rows is free; `row_stride` (elements) allows a slice of columns.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;

  float at(int64_t r, int64_t c) const { return load_f32(data, dtype, r * row_stride + c); }
  WeightView slice_rows(int64_t begin, int64_t count) const {
    return {static_cast<const char*>(data) + begin * row_stride * size_of(dtype), dtype, count, cols,
            row_stride};
  }
  WeightView slice_cols(int64_t begin, int64_t count) const {
    return {static_cast<const char*>(data) + begin * size_of(dtype), dtype, rows, count, row_stride};
  }
};

}  // namespace longspan
