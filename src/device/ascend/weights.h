#pragma once

#include <memory>

#include "device/ascend/card.h"
#include "device/ops.h"

namespace longspan::ascend {

class AscendLinear final : public LinearWeight {
 public:
  DType dtype = DType::kBF16;            // of the weight
  std::unique_ptr<DeviceBuffer> weight;  // [out, in]
  std::unique_ptr<DeviceBuffer> bias;    // f32 [out], or null
};

class AscendExperts final : public ExpertWeights {
 public:
  std::unique_ptr<DeviceBuffer> gate_up;  // bf16 [E, 2 I, H]: gate's rows, then up's
  std::unique_ptr<DeviceBuffer> down;     // bf16 [E, H, I]
};

class AscendEmbedding final : public EmbeddingTable {
 public:
  using EmbeddingTable::EmbeddingTable;
  std::unique_ptr<DeviceBuffer> table;  // [V, H] as stored
};

/// Pages of bf16 ("BnBsH"): of each layer [pages, page_size, Hk * Dk] of K, then those of V, so that one
/// scatter reaches both.
class AscendKvPool final : public KvPool {
 public:
  std::unique_ptr<DeviceBuffer> data;

  int64_t slots() const { return int64_t{shape.pages} * shape.page_size; }
  int64_t k_cols() const { return int64_t{shape.heads_k} * shape.dim_k; }
  int64_t v_cols() const { return int64_t{shape.heads_v} * shape.dim_v; }
  /// [slots, cols] of one layer.
  Matrix k_rows(int32_t layer) const { return rows(layer, 0, k_cols()); }
  Matrix v_rows(int32_t layer) const { return rows(layer, k_cols(), v_cols()); }

 private:
  // `ahead`: values of each slot that lie before them in the layer.
  Matrix rows(int32_t layer, int64_t ahead, int64_t cols) const {
    const int64_t begin = slots() * (layer * (k_cols() + v_cols()) + ahead);
    return {static_cast<char*>(data->data()) + begin * size_of(DType::kBF16), DType::kBF16, slots(), cols,
            cols};
  }
};

std::unique_ptr<LinearWeight> pack_linear(Card& card, std::span<const WeightView> stacked,
                                          std::span<const WeightView> biases, LinearPrecision precision);
std::unique_ptr<ExpertWeights> pack_experts(Card& card, std::span<const ExpertSource> experts,
                                            int32_t first_expert, const ExpertPacked& packed);
std::unique_ptr<EmbeddingTable> make_embedding(Card& card, WeightView table);
std::shared_ptr<const float[]> make_resident(Card& card, std::span<const float> values);
std::unique_ptr<KvPool> make_kv_pool(Card& card, const KvShape& shape);
int64_t kv_page_bytes(const KvShape& shape);

}  // namespace longspan::ascend
