#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace longspan {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Waves longer than the original context are stretched by `factor`, short ones kept, those between blended.
void apply_llama3(const RopeConfig& config, std::vector<float>& inv_freq) {
  const double original = static_cast<double>(config.original_max_position);
  for (float& frequency : inv_freq) {
    const double wavelength = kTwoPi / frequency;
    if (wavelength < original / config.high_freq_factor) continue;
    if (wavelength > original / config.low_freq_factor) {
      frequency = static_cast<float>(frequency / config.factor);
      continue;
    }
    const double smooth =
        (original / wavelength - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
    frequency = static_cast<float>((1 - smooth) * frequency / config.factor + smooth * frequency);
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// The dimension whose wave turns `rotations` times within the original context.
double correction_dim(double rotations, int32_t dim, double theta, double original) {
  return dim * std::log(original / (rotations * kTwoPi)) / (2 * std::log(theta));
}

float apply_yarn(const RopeConfig& config, int32_t dim, int64_t context_length,
                 std::vector<float>& inv_freq) {
  const double original =
      static_cast<double>(config.original_max_position ? config.original_max_position : context_length);
  double low = correction_dim(config.beta_fast, dim, config.theta, original);
  double high = correction_dim(config.beta_slow, dim, config.theta, original);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] =
        static_cast<float>(inv_freq[i] / config.factor * interpolated + inv_freq[i] * (1 - interpolated));
  }
  if (config.attention_factor) return static_cast<float>(*config.attention_factor);
  if (config.mscale && config.mscale_all_dim) {
    return static_cast<float>(yarn_mscale(config.factor, *config.mscale) /
                              yarn_mscale(config.factor, *config.mscale_all_dim));
  }
  return static_cast<float>(yarn_mscale(config.factor, 1.0));
}

}  // namespace

Rope make_rope(const RopeConfig& config, int32_t head_dim, int64_t context_length) {
  Rope rope;
  rope.inv_freq.resize(head_dim / 2);
  for (int32_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    rope.inv_freq[i] = 1.0f / std::pow(static_cast<float>(config.theta), exponent);
  }
  switch (config.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (float& frequency : rope.inv_freq) frequency /= static_cast<float>(config.factor);
      break;
    case RopeScaling::kLlama3:
      apply_llama3(config, rope.inv_freq);
      break;
    case RopeScaling::kYarn:
      rope.factor = apply_yarn(config, head_dim, context_length, rope.inv_freq);
      break;
  }
  return rope;
}

}  // namespace longspan
