#pragma once

#include <cstdint>

#include "device/cpu/cpu_features.h"

namespace longspan {

/// Floating-point sums over k run in blocks of this many elements, each in ascending order from zero, and the
/// blocks' sums are added in ascending order: the order of oneDNN's packed multiplies.
/// AMX tiles sum all of k in one block.
constexpr int64_t sum_block(int64_t k) {
  return k <= 1024 ? 512 : 1024;
}

/// c[rows, 64] = a[rows, k] * b, or c += the product: one panel of a PackedMatrix by some rows. The order of
/// an element's sum is the same whatever `rows` is, and it is added to c at the end, so a row's result does
/// not depend on the rows beside it.
struct GemmTile {
  const void* a = nullptr;  // f32, bf16 or u8
  int64_t a_stride = 0;     // elements
  const void* b = nullptr;  // the panel, see PackedMatrix
  const void* next = nullptr;  // what is read after b, fetched from memory meanwhile
  int64_t next_bytes = 0;      // 0: nothing
  int64_t k = 0;            // multiple of 32
  int64_t rows = 0;
  float* c = nullptr;
  int64_t c_stride = 0;  // elements
  bool accumulate = false;
};

/// The multiplies of one instruction set, single-threaded.
struct GemmKernels {
  void (*f32)(const GemmTile& tile) = nullptr;            // a f32, b f32 [k][64]
  void (*f32_from_bf16)(const GemmTile& tile) = nullptr;  // a f32, b bf16 [k][64]
  /// a bf16, b bf16 [k / 2][64][2]; null where the set has no bf16 arithmetic. Rows of a up to the next
  /// multiple of 16 must be readable.
  void (*bf16)(const GemmTile& tile) = nullptr;
  /// a u8: the quantised element + 128, k of them, then the row's f32 scale; b as PackedMatrix's kInt8.
  void (*int8)(const GemmTile& tile) = nullptr;
};

/// The best kernels that `isa` includes.
GemmKernels gemm_kernels(Isa isa);

extern const GemmKernels kGemmPortable;
extern const GemmKernels kGemmAvx2;
extern const GemmKernels kGemmAvx512;
void gemm_portable_int8(const GemmTile& tile);
void gemm_avx2_int8(const GemmTile& tile);
void gemm_avx512_int8(const GemmTile& tile);
void gemm_avx512_vnni(const GemmTile& tile);
void gemm_avx512_bf16(const GemmTile& tile);
void gemm_amx_bf16(const GemmTile& tile);

}  // namespace longspan
