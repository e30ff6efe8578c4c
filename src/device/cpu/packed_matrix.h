#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "device/host_memory.h"
#include "tensor/matrix.h"

namespace longspan {

/// How a weight is kept and multiplied (sums are f32, or exact integers).
///   kF32          f32 weights, f32 activations
///   kF32FromBf16  bf16 weights turned into f32 chunk by chunk, f32 activations: CPUs without bf16 arithmetic
///   kBf16         bf16 weights, activations rounded to bf16
///   kInt8         int8 weights with a scale per column, activations quantised row by row (LinearPrecision)
enum class Arithmetic { kF32, kF32FromBf16, kBf16, kInt8 };

/// Bytes of an element of the left-hand side's rows.
constexpr int64_t activation_bytes(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kInt8 ? 1 : arithmetic == Arithmetic::kBf16 ? 2 : 4;
}

/// The right-hand side of a multiply: output columns in panels of 64, the inner dimension k padded with zeros
/// to a multiple of 32:
///   f32 and kF32FromBf16  [panels][k_padded][64]
///   kBf16                 [panels][k_padded / 2][64][2 of k]
///   kInt8                 [panels]{s8 [k_padded / 4][64][4 of k], f32 scale [64], i32 128 * column sum [64]}
class PackedMatrix {
 public:
  static constexpr int64_t kPanel = 64;
  static constexpr int64_t kInnerMultiple = 32;

  /// The weight row that a packed column holds; `data` null stands for zeros.
  struct Column {
    const void* data = nullptr;  // k elements
    DType dtype = DType::kF32;
  };

  PackedMatrix() = default;
  /// Reserved, to be filled by pack().
  PackedMatrix(int64_t panels, int64_t k, Arithmetic arithmetic);
  /// Packs panels first .. first + panels - 1 on all threads of the caller; `column(i)` names the source of
  /// column i of these, 0 <= i < panels * 64.
  void pack(int64_t first, int64_t panels, const std::function<Column(int64_t)>& column);

  static int64_t bytes_for(int64_t panels, int64_t k, Arithmetic arithmetic);
  static int64_t padded_inner(int64_t k) {
    return (k + kInnerMultiple - 1) / kInnerMultiple * kInnerMultiple;
  }
  static int64_t panels_for(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

  Arithmetic arithmetic() const { return arithmetic_; }
  int64_t k_padded() const { return k_padded_; }
  int64_t bytes() const { return data_.bytes(); }
  int64_t panel_bytes() const { return panel_bytes_; }
  int64_t panels() const { return panel_bytes_ == 0 ? 0 : bytes() / panel_bytes_; }
  const char* panel(int64_t index) const { return data_.data() + index * panel_bytes_; }

 private:
  Arithmetic arithmetic_ = Arithmetic::kF32;
  int64_t k_ = 0;
  int64_t k_padded_ = 0;
  int64_t panel_bytes_ = 0;
  HostBuffer data_;
};

}  // namespace longspan
