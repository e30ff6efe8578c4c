#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/cpu/cpu_features.h"
#include "device/device.h"
#include "device/host_memory.h"

namespace longspan {

// Unit roundoffs: the relative error of one rounding.
constexpr double kRoundF32 = 0x1p-24;
constexpr double kRoundBf16 = 0x1p-8;

/// A backend under test.
struct BackendCase {
  DType compute;
  std::string isa;
  double activation_round() const { return compute == DType::kBF16 ? kRoundBf16 : 0; }
};

inline std::vector<BackendCase> cpu_cases() {
  std::vector<BackendCase> cases;
  for (DType compute : {DType::kF32, DType::kBF16})
    for (Isa isa : available_isas()) cases.push_back({compute, std::string(to_string(isa))});
  return cases;
}

inline std::string case_name(const testing::TestParamInfo<BackendCase>& info) {
  return std::string(to_string(info.param.compute)) + "_" + info.param.isa;
}

/// A device with an arena and a context to call its ops with.
class OpRunner {
 public:
  explicit OpRunner(const DeviceOptions& options, int threads = 2)
      : device_(make_device(options)), arena_(device_->memory()), ctx_{arena_, threads} {}
  explicit OpRunner(const BackendCase& c, int threads = 2)
      : OpRunner(DeviceOptions{.backend = "cpu", .compute = c.compute, .isa = c.isa}, threads) {}

  Ops& ops() { return device_->ops(); }
  OpContext& ctx() { return ctx_; }

 private:
  std::unique_ptr<Device> device_;
  Arena arena_;
  OpContext ctx_;
};

inline OpRunner reference_runner(DType compute) {
  return OpRunner(DeviceOptions{.backend = "reference", .compute = compute});
}

/// An f32 matrix whose rows may be part of a wider buffer. What lies between the rows is marked, and
/// `gaps_intact` tells whether an op wrote there.
class TestMatrix {
 public:
  TestMatrix(int64_t rows, int64_t cols, int64_t gap = 0)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        data_(static_cast<size_t>(rows * stride_) + 1, kMark) {}  // never empty: data is not null

  Matrix view() { return {data_.data(), DType::kF32, rows_, cols_, stride_}; }
  float& at(int64_t r, int64_t c) { return data_[static_cast<size_t>(r * stride_ + c)]; }
  float at(int64_t r, int64_t c) const { return data_[static_cast<size_t>(r * stride_ + c)]; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  bool gaps_intact() const {
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = cols_; c < stride_; ++c)
        if (at(r, c) != kMark) return false;
    return data_.back() == kMark;
  }
  void fill_random(uint32_t seed, float scale = 1.0f) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c) at(r, c) = normal(rng);
  }

 private:
  static constexpr float kMark = -12345.5f;
  int64_t rows_, cols_, stride_;
  std::vector<float> data_;
};

/// A checkpoint's array of `dtype`.
class TestWeight {
 public:
  TestWeight(int64_t rows, int64_t cols, DType dtype, uint32_t seed, float scale)
      : rows_(rows), cols_(cols), dtype_(dtype) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    bytes_.resize(static_cast<size_t>(rows * cols * size_of(dtype)));
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float value = normal(rng);
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      if (dtype == DType::kF32) {
        std::memcpy(bytes_.data() + 4 * i, &value, 4);
      } else if (dtype == DType::kBF16) {
        const uint16_t half = f32_to_bf16(value);
        std::memcpy(bytes_.data() + 2 * i, &half, 2);
      } else {  // f16 of the normal range, truncated
        const uint32_t exponent = bits >> 23 & 0xff;
        const auto half = static_cast<uint16_t>(
            (bits >> 16 & 0x8000) | (exponent <= 112 ? 0 : (exponent - 112) << 10 | (bits >> 13 & 0x3ff)));
        std::memcpy(bytes_.data() + 2 * i, &half, 2);
      }
    }
  }
  WeightView view() const { return {bytes_.data(), dtype_, rows_, cols_, cols_}; }
  /// The value a backend of this compute dtype multiplies with.
  float value(int64_t r, int64_t c, DType compute) const {
    const float value = view().at(r, c);
    return compute == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value;
  }

 private:
  int64_t rows_, cols_;
  DType dtype_;
  std::vector<char> bytes_;
};

/// Largest difference, NaN counted as infinite.
inline double max_difference(const TestMatrix& a, const TestMatrix& b) {
  double worst = 0;
  for (int64_t r = 0; r < a.rows(); ++r)
    for (int64_t c = 0; c < a.cols(); ++c) {
      const double d = std::abs(double{a.at(r, c)} - double{b.at(r, c)});
      worst = std::isnan(d) ? INFINITY : std::max(worst, d);
    }
  return worst;
}

inline double max_abs(const TestMatrix& a) {
  double worst = 0;
  for (int64_t r = 0; r < a.rows(); ++r)
    for (int64_t c = 0; c < a.cols(); ++c) worst = std::max(worst, std::abs(double{a.at(r, c)}));
  return worst;
}

}  // namespace longspan
