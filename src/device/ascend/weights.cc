#include "device/ascend/weights.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <cstring>

#include "device/op_checks.h"

namespace longspan::ascend {
namespace {

constexpr int64_t kPageTokens = 128;  // what every release's fused attention takes

// Rows of a weight in another dtype, without gaps.
std::vector<char> converted(const WeightView& w, DType dtype) {
  std::vector<char> result(static_cast<size_t>(w.rows * w.cols * size_of(dtype)));
  char* to = result.data();
  for (int64_t r = 0; r < w.rows; ++r) {
    if (w.dtype == dtype) {
      std::memcpy(to, w.slice_rows(r, 1).data, static_cast<size_t>(w.cols * size_of(dtype)));
      to += w.cols * size_of(dtype);
      continue;
    }
    for (int64_t c = 0; c < w.cols; ++c) {
      const float value = w.at(r, c);
      const uint16_t rounded = f32_to_bf16(value);
      if (dtype == DType::kF32)
        std::memcpy(to, &value, sizeof value);
      else
        std::memcpy(to, &rounded, sizeof rounded);
      to += size_of(dtype);
    }
  }
  return result;
}

// Copies the weight to `at` (bytes); returns the end.
int64_t put(DeviceBuffer& buffer, const WeightView& w, DType dtype, int64_t at) {
  const std::vector<char> bytes = converted(w, dtype);
  buffer.fill(bytes.data(), std::ssize(bytes), at);
  return at + std::ssize(bytes);
}

}  // namespace

std::unique_ptr<LinearWeight> pack_linear(Card& card, std::span<const WeightView> stacked,
                                          std::span<const WeightView> biases, LinearPrecision precision) {
  auto result = std::make_unique<AscendLinear>();
  result->out_features = check_stacked(stacked, biases);
  result->in_features = stacked[0].cols;
  result->dtype = precision == LinearPrecision::kF32 ? DType::kF32 : DType::kBF16;
  result->bytes = result->out_features * result->in_features * size_of(result->dtype);
  result->weight = std::make_unique<DeviceBuffer>(card, result->bytes);
  int64_t at = 0;
  for (const WeightView& w : stacked) at = put(*result->weight, w, result->dtype, at);

  const std::vector<float> bias = stacked_bias(stacked, biases);
  if (bias.empty()) return result;
  const auto bytes = static_cast<int64_t>(bias.size() * sizeof(float));
  result->bias = std::make_unique<DeviceBuffer>(card, bytes);
  result->bias->fill(bias.data(), bytes);
  result->bytes += bytes;
  return result;
}

std::unique_ptr<ExpertWeights> pack_experts(Card& card, std::span<const ExpertSource> experts,
                                            int32_t first_expert, const ExpertPacked& packed) {
  auto result = std::make_unique<AscendExperts>();
  describe_experts(experts, first_expert, *result);
  const int64_t matrix = result->hidden * result->width * size_of(DType::kBF16);
  result->gate_up = std::make_unique<DeviceBuffer>(card, result->count * 2 * matrix);
  result->down = std::make_unique<DeviceBuffer>(card, result->count * matrix);
  result->bytes = result->count * 3 * matrix;
  int64_t at = 0, down_at = 0;
  for (size_t e = 0; e < experts.size(); ++e) {
    at = put(*result->gate_up, experts[e].gate, DType::kBF16, at);
    at = put(*result->gate_up, experts[e].up, DType::kBF16, at);
    down_at = put(*result->down, experts[e].down, DType::kBF16, down_at);
    if (packed) packed(e);
  }
  return result;
}

std::unique_ptr<EmbeddingTable> make_embedding(Card& card, WeightView table) {
  auto result = std::make_unique<AscendEmbedding>(table);
  result->bytes = table.rows * table.cols * size_of(table.dtype);
  result->table = std::make_unique<DeviceBuffer>(card, result->bytes);
  put(*result->table, table, table.dtype, 0);
  return result;
}

std::shared_ptr<const float[]> make_resident(Card& card, std::span<const float> values) {
  const auto buffer = std::make_shared<DeviceBuffer>(card, static_cast<int64_t>(values.size_bytes()));
  buffer->fill(values.data(), static_cast<int64_t>(values.size_bytes()));
  return {buffer, static_cast<const float*>(buffer->data())};
}

int64_t kv_page_bytes(const KvShape& s) {
  const int64_t row = int64_t{s.heads_k} * s.dim_k + int64_t{s.heads_v} * s.dim_v;
  return int64_t{s.layers} * s.page_size * row * size_of(DType::kBF16);
}

std::unique_ptr<KvPool> make_kv_pool(Card& card, const KvShape& shape) {
  if (shape.page_size != kPageTokens)
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("page size {}: fused attention on Ascend takes pages of {} tokens in every release; "
                    "use --page-size {}",
                    shape.page_size, kPageTokens, kPageTokens));
  auto pool = std::make_unique<AscendKvPool>();
  pool->shape = shape;
  pool->dtype = DType::kBF16;
  pool->bytes = shape.pages * kv_page_bytes(shape);
  pool->data = std::make_unique<DeviceBuffer>(card, pool->bytes);
  card.enter();
  const auto bytes = static_cast<size_t>(pool->bytes);
  card.check(card.acl().aclrtMemset(pool->data->data(), bytes, 0, bytes), "aclrtMemset");
  return pool;
}

}  // namespace longspan::ascend
