#pragma once

// Included once by each row_kernels_*.cc, which are compiled for different instruction sets: everything here
// has internal linkage, and no inline function of another header is called, so that no code of a higher set
// can be linked into a lower one.

#include "device/cpu/row_kernels.h"
#include "device/int8.h"

namespace longspan {
namespace {

constexpr int kLanes = 16;

inline uint32_t bits_of(float value) {
  return __builtin_bit_cast(uint32_t, value);
}
inline float from_bits(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
inline float clamped(float value, float lowest, float highest) {
  value = value < lowest ? lowest : value;
  return value > highest ? highest : value;
}

/// e^x within 2 ulp for |x| < 87; beyond, the result saturates near the ends of the normal range.
inline float exp_fast(float x) {
  x = clamped(x, -87.0f, 88.0f);
  constexpr float kRoundToInt = 12582912.0f;  // 1.5 * 2^23
  const float shifted = x * 1.44269504f + kRoundToInt;
  const float n = shifted - kRoundToInt;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts
  float p = 1.9875691500e-4f;                                    // Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float scale = from_bits((bits_of(shifted) - bits_of(kRoundToInt) + 127u) << 23);
  return (p * r * r + r + 1.0f) * scale;
}

inline uint16_t bf16_bits(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

inline float sum_lanes(const float* lanes) {
  float half[8], quarter[4];
  for (int i = 0; i < 8; ++i) half[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; ++i) quarter[i] = half[i] + half[i + 4];
  return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

void rms_norm_row(const float* x, const float* weight, float eps, int64_t n, float* out) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * x[i + l];
  for (int l = 0; i < n; ++i, ++l) lanes[l] += x[i] * x[i];
  const float mean = sum_lanes(lanes) / static_cast<float>(n);
  const float scale = 1.0f / __builtin_sqrtf(mean + eps);
  for (i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void rotate_half_row(float* x, const float* cos, const float* sin, int64_t dim) {
  const int64_t half = dim / 2;
  float* y = x + half;
#pragma GCC ivdep
  for (int64_t i = 0; i < half; ++i) {
    const float low = x[i], high = y[i];
    x[i] = low * cos[i] - high * sin[i];
    y[i] = high * cos[i] + low * sin[i];
  }
}

inline float swiglu_of(float gate, float up) {
  return gate / (1.0f + exp_fast(-gate)) * up;
}

void swiglu_row(const float* __restrict gate, const float* __restrict up, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = swiglu_of(gate[i], up[i]);
}

void swiglu_bf16_row(const float* __restrict gate, const float* __restrict up, int64_t n,
                     uint16_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = bf16_bits(swiglu_of(gate[i], up[i]));
}

void to_bf16_row(const float* __restrict src, int64_t n, uint16_t* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = bf16_bits(src[i]);
}

void to_bf16_padded_row(const float* __restrict src, int64_t n, int64_t padded, uint16_t* __restrict dst) {
  to_bf16_row(src, n, dst);
  for (int64_t i = n; i < padded; ++i) dst[i] = 0;
}

void copy_padded_row(const float* __restrict src, int64_t n, int64_t padded, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = src[i];
  for (int64_t i = n; i < padded; ++i) dst[i] = 0.0f;
}

void from_bf16_row(const uint16_t* __restrict src, int64_t n, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = from_bits(static_cast<uint32_t>(src[i]) << 16);
}

float max_abs_row(const float* x, int64_t n) {
  uint32_t lanes[kLanes] = {};  // magnitudes order like their bits
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t bits = bits_of(x[i + l]) & 0x7fffffffu;
      lanes[l] = bits > lanes[l] ? bits : lanes[l];
    }
  uint32_t max = 0;
  for (; i < n; ++i) max = (bits_of(x[i]) & 0x7fffffffu) > max ? bits_of(x[i]) & 0x7fffffffu : max;
  for (uint32_t lane : lanes) max = lane > max ? lane : max;
  return from_bits(max);
}

/// A row with an infinity or NaN gets a NaN scale, so that it stays visible.
void quantize_row(const float* __restrict src, int64_t n, int64_t padded, uint8_t* __restrict dst,
                  float* __restrict scale) {
  constexpr float kRoundToInt = 12582912.0f + 128.0f;  // 1.5 * 2^23, and the offset
  const float max = max_abs_row(src, n);
  const bool finite = max <= 3.4028235e38f;
  const float inverse = max >= kLeastQuantized && finite ? 127.0f / max : 0.0f;
  *scale = !finite ? from_bits(0x7fc00000u) : max >= kLeastQuantized ? max / 127.0f : 0.0f;
  if (finite) {
    for (int64_t i = 0; i < n; ++i) {
      const float x = clamped(src[i] * inverse, -127.0f, 127.0f);
      dst[i] = static_cast<uint8_t>(bits_of(x + kRoundToInt) & 0xffu);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = 128;
  }
  for (int64_t i = n; i < padded; ++i) dst[i] = 128;
}

void add_scaled_row(const float* __restrict x, float weight, int64_t n, float* __restrict y) {
  for (int64_t i = 0; i < n; ++i) y[i] += weight * x[i];
}

void add_row(const float* __restrict src, int64_t n, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] += src[i];
}

float max_row(const float* x, int64_t n) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = x[0];
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
  float max = lanes[0];
  for (; i < n; ++i) max = x[i] > max ? x[i] : max;
  for (float lane : lanes) max = lane > max ? lane : max;
  return max;
}

double exp_sum_row(const float* x, float max, int64_t n) {
  constexpr int64_t kChunk = 1024;  // per lane 64 terms in f32, then a double: no small term is lost
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t end = begin + kChunk < n ? begin + kChunk : n;
    float lanes[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int l = 0; l < kLanes; ++l) lanes[l] += exp_fast(x[i + l] - max);
    for (int l = 0; i < end; ++i, ++l) lanes[l] += exp_fast(x[i] - max);
    sum += static_cast<double>(sum_lanes(lanes));
  }
  return sum;
}

constexpr RowKernels kThisRowKernels = {.rms_norm = rms_norm_row,
                                        .rotate_half = rotate_half_row,
                                        .swiglu = swiglu_row,
                                        .swiglu_bf16 = swiglu_bf16_row,
                                        .to_bf16 = to_bf16_row,
                                        .to_bf16_padded = to_bf16_padded_row,
                                        .copy_padded = copy_padded_row,
                                        .from_bf16 = from_bf16_row,
                                        .quantize = quantize_row,
                                        .add_scaled = add_scaled_row,
                                        .add = add_row,
                                        .max = max_row,
                                        .exp_sum = exp_sum_row};

}  // namespace
}  // namespace longspan
