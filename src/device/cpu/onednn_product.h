#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "device/cpu/gemm_kernels.h"
#include "tensor/dtype.h"

namespace longspan {

/// Products of kRows rows by a whole weight, by oneDNN, which reads the panels of a PackedMatrix as they are
/// (its layouts BA16a64b and BA16a64b2a). Single-threaded; safe for concurrent use.
class OneDnnProduct {
 public:
  static constexpr int64_t kRows = 256;

  virtual ~OneDnnProduct() = default;
  /// c[kRows, n] = a[kRows, k] * b, or c += the product, with the bits that the row kernel of the dtype
  /// gives. a: f32 or bf16, b: n / 64 panels, c: f32; no gaps between rows. `scratch`: scratch_bytes(),
  /// 64-byte aligned.
  virtual void multiply(const void* a, const void* b, float* c, bool accumulate, void* scratch) const = 0;
  virtual int64_t scratch_bytes() const = 0;
};

/// Shares the products between the weights of a model.
class OneDnnProducts {
 public:
  /// For weights [n, k] of `dtype` (kF32 or kBF16). Null where oneDNN has no packed multiply of that shape,
  /// or where a trial gives other bits than `kernel`: then its sums run in another order than sum_block's.
  std::shared_ptr<const OneDnnProduct> get(DType dtype, int64_t k, int64_t n,
                                           void (*kernel)(const GemmTile& tile));

 private:
  struct Shape {
    DType dtype;
    int64_t k, n;
    auto operator<=>(const Shape&) const = default;
  };
  std::mutex mutex_;
  std::map<Shape, std::shared_ptr<const OneDnnProduct>> products_;
};

}  // namespace longspan
