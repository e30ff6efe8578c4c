#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "device/int8.h"
#include "device/op_checks.h"
#include "device/reference/reference_ops.h"

namespace longspan {
namespace {

float rounded(float value, DType dtype) {
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value;
}

/// values = round(values / scale), scale = max|value| / 127; returns the scale.
float quantize(std::span<float> values) {
  float max = 0;
  for (float v : values) max = std::max(max, std::abs(v));
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    std::fill(values.begin(), values.end(), 0.0f);
    return NAN;
  }
  const bool zero = max < kLeastQuantized;
  const float inverse = zero ? 0.0f : 127.0f / max;
  for (float& v : values) v = std::clamp(std::nearbyint(v * inverse), -127.0f, 127.0f);
  return zero ? 0.0f : max / 127.0f;
}

void multiply_quantized_row(const ReferenceLinear& w, const float* x, float* y) {
  std::vector<float> q(x, x + w.in_features);
  const float scale = quantize(q);
  for (int64_t o = 0; o < w.out_features; ++o) {
    const float* weight = w.weight.data() + o * w.in_features;
    int64_t sum = 0;
    for (size_t i = 0; i < q.size(); ++i) sum += static_cast<int64_t>(q[i]) * static_cast<int64_t>(weight[i]);
    y[o] = static_cast<float>(sum) * (scale * w.scales[static_cast<size_t>(o)]);
    if (!w.bias.empty()) y[o] += w.bias[static_cast<size_t>(o)];
  }
}

/// y[out] = W x + b for one row.
void multiply_row(const ReferenceLinear& w, const float* x, float* y) {
  if (!w.scales.empty()) return multiply_quantized_row(w, x, y);
  for (int64_t o = 0; o < w.out_features; ++o) {
    const float* weight = w.weight.data() + o * w.in_features;
    float sum = 0;
    for (int64_t i = 0; i < w.in_features; ++i) sum += x[i] * weight[i];
    y[o] = sum + (w.bias.empty() ? 0.0f : w.bias[static_cast<size_t>(o)]);
  }
}

}  // namespace

ReferenceLinear ReferenceOps::rounded_linear(std::span<const WeightView> stacked,
                                             std::span<const WeightView> biases,
                                             LinearPrecision precision) const {
  const bool quantized = int8_ && precision == LinearPrecision::kCompute;
  const DType dtype = quantized || precision == LinearPrecision::kF32 ? DType::kF32 : compute_;
  ReferenceLinear result;
  result.out_features = check_stacked(stacked, biases);
  result.in_features = stacked[0].cols;
  for (const WeightView& w : stacked)
    for (int64_t r = 0; r < w.rows; ++r)
      for (int64_t c = 0; c < w.cols; ++c) result.weight.push_back(rounded(w.at(r, c), dtype));
  for (int64_t o = 0; quantized && o < result.out_features; ++o)
    result.scales.push_back(quantize(
        std::span(result.weight)
            .subspan(static_cast<size_t>(o * result.in_features), static_cast<size_t>(result.in_features))));
  result.bias = stacked_bias(stacked, biases);
  result.bytes = static_cast<int64_t>((result.weight.size() + result.bias.size()) * sizeof(float));
  return result;
}

std::unique_ptr<LinearWeight> ReferenceOps::pack_linear(std::span<const WeightView> stacked,
                                                        std::span<const WeightView> biases,
                                                        LinearPrecision precision) {
  return std::make_unique<ReferenceLinear>(rounded_linear(stacked, biases, precision));
}

std::unique_ptr<ExpertWeights> ReferenceOps::pack_experts(std::span<const ExpertSource> experts,
                                                          int32_t first_expert, const ExpertPacked& packed) {
  auto result = std::make_unique<ReferenceExperts>();
  describe_experts(experts, first_expert, *result);
  for (const ExpertSource& e : experts) {
    result->gate.push_back(rounded_linear({&e.gate, 1}, {}, LinearPrecision::kCompute));
    result->up.push_back(rounded_linear({&e.up, 1}, {}, LinearPrecision::kCompute));
    result->down.push_back(rounded_linear({&e.down, 1}, {}, LinearPrecision::kCompute));
    if (packed) packed(result->down.size() - 1);
  }
  result->bytes = result->count * packed_expert_bytes(result->hidden, result->width);
  return result;
}

int64_t ReferenceOps::packed_linear_bytes(int64_t out_features, int64_t in_features, LinearPrecision) const {
  return out_features * in_features * static_cast<int64_t>(sizeof(float));
}

int64_t ReferenceOps::packed_expert_bytes(int64_t hidden, int64_t width) const {
  return 3 * hidden * width * static_cast<int64_t>(sizeof(float));
}

void ReferenceOps::linear(OpContext&, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) {
  check_linear(x, w, out);
  const auto& weight = dynamic_cast<const ReferenceLinear&>(w);
  std::vector<float> y(static_cast<size_t>(out.cols));
  for (int64_t t = 0; t < x.rows; ++t) {
    multiply_row(weight, x.f32(t), y.data());
    for (int64_t o = 0; o < out.cols; ++o)
      out.f32(t)[o] = (accumulate ? out.f32(t)[o] : 0.0f) + y[static_cast<size_t>(o)];
  }
}

void ReferenceOps::moe_route(OpContext&, Matrix logits, bool normalize, Matrix ids, Matrix weights) {
  check_moe_route(logits, ids, weights);
  const int64_t experts = logits.cols;
  std::vector<float> p(static_cast<size_t>(experts));
  for (int64_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.f32(t);
    const float max = *std::max_element(row, row + experts);
    float sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += p[static_cast<size_t>(e)] = std::exp(row[e] - max);
    float chosen = 0;
    std::vector<bool> taken(static_cast<size_t>(experts));
    for (int64_t j = 0; j < ids.cols; ++j) {
      int64_t best = -1;
      for (int64_t e = 0; e < experts; ++e)
        if (!taken[static_cast<size_t>(e)] && (best < 0 || row[e] > row[best])) best = e;
      taken[static_cast<size_t>(best)] = true;
      ids.row<int32_t>(t)[j] = static_cast<int32_t>(best);
      weights.f32(t)[j] = p[static_cast<size_t>(best)] / sum;
      chosen += weights.f32(t)[j];
    }
    for (int64_t j = 0; normalize && j < ids.cols; ++j) weights.f32(t)[j] /= chosen;
  }
}

void ReferenceOps::moe_experts(OpContext&, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                               Matrix out) {
  check_moe_experts(x, ids, weights, experts, out);
  const auto& e = dynamic_cast<const ReferenceExperts&>(experts);
  const auto width = static_cast<size_t>(e.width);
  std::vector<float> gate(width), up(width), y(static_cast<size_t>(e.hidden));
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t j = 0; j < ids.cols; ++j) {
      const int32_t local = ids.row<int32_t>(t)[j] - e.first_expert;
      if (local < 0 || local >= e.count) continue;
      multiply_row(e.gate[static_cast<size_t>(local)], x.f32(t), gate.data());
      multiply_row(e.up[static_cast<size_t>(local)], x.f32(t), up.data());
      for (size_t i = 0; i < width; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
      multiply_row(e.down[static_cast<size_t>(local)], gate.data(), y.data());
      for (int64_t i = 0; i < e.hidden; ++i) out.f32(t)[i] += weights.f32(t)[j] * y[static_cast<size_t>(i)];
    }
  }
}

}  // namespace longspan
