#pragma once

#include <longspan/hardware_limits.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace longspan {

/// Operations per second of an n x n x n oneDNN multiply of `dtype` with f32 sums, median of nine. One thread
/// is timed by its own CPU time, so that a busy machine disturbs less; several by the clock.
double cpu_gemm_flops_per_s(DType dtype, int64_t n, int threads);

/// The best that oneDNN does at `dtype`, the yardstick of every benchmark. A multiply of 512 stays in L2, one
/// of 2048 does not: where they differ, memory is the limit. ONEDNN_MAX_CPU_ISA limits the instruction set,
/// e.g. to AVX512_CORE_BF16 on a machine with AMX.
double cpu_peak_flops_per_s(DType dtype, int threads);

/// Likewise of u8 times s8 with s32 sums.
double cpu_peak_int8_ops_per_s(int threads);

/// Bytes per second that `threads` threads read from a buffer larger than the caches, median of five.
double cpu_read_bytes_per_s(int threads);

/// For `compute` kBF16 the better of bf16 and f32: without bf16 arithmetic oneDNN's bf16 is emulated. With
/// `int8`, which attention and lm_head do without, the best of all.
HardwareLimits cpu_limits(DType compute, bool int8, int threads);

}  // namespace longspan
