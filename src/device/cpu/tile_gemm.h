#pragma once

#include <memory>

#include "device/cpu/gemm_kernels.h"
#include "device/cpu/onednn_product.h"
#include "device/cpu/packed_matrix.h"
#include "device/cpu/row_kernels.h"

namespace longspan {

/// The kernels of one instruction set, as the ops take them.
struct CpuKernels {
  explicit CpuKernels(Isa isa) : rows(row_kernels(isa)), gemm(gemm_kernels(isa)) {
    if (isa >= Isa::kAvx512) library = std::make_shared<OneDnnProducts>();
  }
  const RowKernels& rows;
  GemmKernels gemm;
  std::shared_ptr<OneDnnProducts> library;  // null where oneDNN has no packed multiplies
};

constexpr int64_t kTileRows = 128;    // at most, of one TileArgs
constexpr int64_t kTilePanels = 2;    // at most
constexpr int64_t kRowMultiple = 16;  // a's rows are readable up to the next multiple

/// One thread's share of a multiply: some rows by a few panels. Every op's work is cut into such tiles; what
/// a row gets does not depend on the rows beside it or on how the work was cut.
struct TileArgs {
  const void* a = nullptr;  // [rows, k_padded]; in the weight's arithmetic: f32, bf16 or quantised
  int64_t a_stride = 0;     // elements
  int64_t rows = 0;
  int64_t panel = 0;    // first panel of the weight
  int64_t columns = 0;  // from the first panel's start
  float* c = nullptr;   // [rows, columns]
  int64_t c_stride = 0;
  bool accumulate = false;  // c += the product, added when it is complete
};

/// Memory that multiply_tile needs, uninitialised, 64-byte aligned.
int64_t tile_scratch_bytes(const PackedMatrix& b);
void multiply_tile(const CpuKernels& kernels, const PackedMatrix& b, const TileArgs& tile, char* scratch);

/// Row strides for copies of `a`, in elements: rows 4 KiB apart would fall into the same cache sets.
constexpr int64_t bf16_row_stride(int64_t k_padded) {
  return k_padded + 32;
}
constexpr int64_t int8_row_stride(int64_t k_padded) {
  return k_padded + 64;  // the row's scale follows its elements
}

/// Row x[n] to `a`'s form at `dst`, [k_padded].
inline void prepare_row(const RowKernels& rows, Arithmetic arithmetic, const float* x, int64_t n,
                        int64_t k_padded, char* dst) {
  if (arithmetic == Arithmetic::kInt8)
    rows.quantize(x, n, k_padded, reinterpret_cast<uint8_t*>(dst), reinterpret_cast<float*>(dst + k_padded));
  else if (arithmetic == Arithmetic::kBf16)
    rows.to_bf16_padded(x, n, k_padded, reinterpret_cast<uint16_t*>(dst));
  else
    rows.copy_padded(x, n, k_padded, reinterpret_cast<float*>(dst));
}
constexpr int64_t prepared_row_stride(Arithmetic arithmetic, int64_t k_padded) {
  return arithmetic == Arithmetic::kInt8   ? int8_row_stride(k_padded)
         : arithmetic == Arithmetic::kBf16 ? bf16_row_stride(k_padded)
                                           : k_padded;
}

}  // namespace longspan
