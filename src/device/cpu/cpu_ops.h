#pragma once

#include "device/cpu/cpu_features.h"
#include "device/cpu/tile_gemm.h"
#include "device/ops.h"

namespace longspan {

/// The ops on CPU cores: each one is a free function of this folder. Shared by all ranks of a process.
class CpuOps : public Ops {
 public:
  CpuOps(DType compute, bool int8, Isa isa);

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
  Arithmetic arithmetic_of(LinearPrecision precision) const;
  DType compute_;
  Isa isa_;
  Arithmetic unquantized_;
  Arithmetic arithmetic_;  // of LinearPrecision::kCompute and experts
  CpuKernels kernels_;
};

}  // namespace longspan
