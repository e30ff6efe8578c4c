#pragma once

#include <vector>

#include "device/ops.h"

namespace longspan {

/// A weight in f32, rounded to the compute dtype first: [out, in] row-major. int8: whole numbers with a scale
/// a row.
class ReferenceLinear : public LinearWeight {
 public:
  std::vector<float> weight;
  std::vector<float> bias;    // [out] or empty
  std::vector<float> scales;  // [out] where quantised, else empty
};

class ReferenceExperts : public ExpertWeights {
 public:
  std::vector<ReferenceLinear> gate, up, down;
};

/// K and V as plain f32 arrays (values rounded to the compute dtype): [layers][pages, page_size, heads * D].
class ReferenceKvPool : public KvPool {
 public:
  std::vector<float> k, v;

  int64_t slots() const { return int64_t{shape.pages} * shape.page_size; }
  float* k_row(int32_t layer, int64_t slot) {
    return k.data() + (layer * slots() + slot) * shape.heads_k * shape.dim_k;
  }
  float* v_row(int32_t layer, int64_t slot) {
    return v.data() + (layer * slots() + slot) * shape.heads_v * shape.dim_v;
  }
  const float* k_row(int32_t layer, int64_t slot) const {
    return const_cast<ReferenceKvPool*>(this)->k_row(layer, slot);
  }
  const float* v_row(int32_t layer, int64_t slot) const {
    return const_cast<ReferenceKvPool*>(this)->v_row(layer, slot);
  }
};

/// Every op as its contract says it, one thread, no tricks: what the other backends are measured against.
/// Activations stay f32 even where the compute dtype is bf16; only weights and KV are rounded.
class ReferenceOps : public Ops {
 public:
  explicit ReferenceOps(DType compute, bool int8 = false) : compute_(compute), int8_(int8) {}

  std::string name() const override;
  std::unique_ptr<LinearWeight> pack_linear(std::span<const WeightView> stacked,
                                            std::span<const WeightView> biases,
                                            LinearPrecision precision) override;
  std::unique_ptr<ExpertWeights> pack_experts(std::span<const ExpertSource> experts, int32_t first_expert,
                                              const ExpertPacked& packed) override;
  int64_t packed_linear_bytes(int64_t out_features, int64_t in_features,
                              LinearPrecision precision) const override;
  int64_t packed_expert_bytes(int64_t hidden, int64_t width) const override;
  std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape) override;
  int64_t kv_page_bytes(const KvShape& shape) const override;
  void download(OpContext& ctx, Matrix src, std::span<float> dst) override;
  void embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) override;
  void rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) override;
  void linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) override;
  void rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                  Matrix cos_sin) override;
  void qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) override;
  void kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) override;
  void kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
               Matrix v) override;
  void attention(OpContext& ctx, const AttentionArgs& args) override;
  void merge_partials(OpContext& ctx, const MergeArgs& args) override;
  void moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out) override;
  void swiglu(OpContext& ctx, Matrix gate_up, Matrix out) override;
  void moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) override;
  void moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                   Matrix out) override;
  void add_gated(OpContext& ctx, Matrix gate, Matrix y, Matrix out) override;
  void add(OpContext& ctx, Matrix y, Matrix out) override;
  void clear(OpContext& ctx, Matrix out) override;
  void convert(OpContext& ctx, Matrix src, Matrix dst) override;
  void gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) override;
  void log_softmax_at(OpContext& ctx, Matrix logits, IndexArray targets, Matrix out) override;
  void log_sum_exp(OpContext& ctx, Matrix logits, Matrix out) override;

 private:
  ReferenceLinear rounded_linear(std::span<const WeightView> stacked, std::span<const WeightView> biases,
                                 LinearPrecision precision) const;
  DType compute_;
  bool int8_;
};

}  // namespace longspan
