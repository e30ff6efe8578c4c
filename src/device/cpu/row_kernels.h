#pragma once

#include <cstdint>

#include "device/cpu/cpu_features.h"

namespace longspan {

/// Loops over one row, compiled once per instruction set from the same source (row_kernels_impl.h). Sums run
/// in 16 lanes that are added in a fixed order, and nothing is contracted, so every set gives the same bits.
struct RowKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight, n elements; out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  /// Rotates one head in place: x[dim], cos and sin [dim / 2].
  void (*rotate_half)(float* x, const float* cos, const float* sin, int64_t dim);
  /// out[i] = silu(gate[i]) * up[i].
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  void (*swiglu_bf16)(const float* gate, const float* up, int64_t n, uint16_t* out);
  /// Round to nearest even, NaN stays NaN.
  void (*to_bf16)(const float* src, int64_t n, uint16_t* dst);
  /// n elements, then zeros up to `padded`.
  void (*to_bf16_padded)(const float* src, int64_t n, int64_t padded, uint16_t* dst);
  void (*copy_padded)(const float* src, int64_t n, int64_t padded, float* dst);
  void (*from_bf16)(const uint16_t* src, int64_t n, float* dst);
  /// dst = round(src / scale) + 128 with scale = max|src| / 127 (see LinearPrecision), n elements, then 128
  /// up to `padded`; the scale goes to *scale.
  void (*quantize)(const float* src, int64_t n, int64_t padded, uint8_t* dst, float* scale);
  /// y += weight * x.
  void (*add_scaled)(const float* x, float weight, int64_t n, float* y);
  /// dst += src.
  void (*add)(const float* src, int64_t n, float* dst);
  float (*max)(const float* x, int64_t n);
  /// sum of exp(x[i] - max).
  double (*exp_sum)(const float* x, float max, int64_t n);
};

/// The best compiled form that `isa` includes.
const RowKernels& row_kernels(Isa isa);

extern const RowKernels kRowKernelsPortable;
extern const RowKernels kRowKernelsAvx2;
extern const RowKernels kRowKernelsAvx512;

}  // namespace longspan
