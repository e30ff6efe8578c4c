#pragma once

#include <limits>

#include "device/ascend/card.h"
#include "device/ops.h"

namespace longspan::ascend {

/// The ops on one card, in bf16. Shared by all ranks of a process, each with a stream of its own.
class AscendOps final : public Ops {
 public:
  /// `cp_launches`: as in AscendOptions.
  AscendOps(Card& card, int32_t cp_launches);

  std::string name() const override;
  DType inner_dtype() const override { return DType::kBF16; }
  int64_t norm_rows() const override { return std::numeric_limits<int64_t>::max(); }  // a launch costs more
  std::unique_ptr<LinearWeight> pack_linear(std::span<const WeightView> stacked,
                                            std::span<const WeightView> biases,
                                            LinearPrecision precision) override;
  std::unique_ptr<ExpertWeights> pack_experts(std::span<const ExpertSource> experts, int32_t first_expert,
                                              const ExpertPacked& packed) override;
  int64_t packed_linear_bytes(int64_t out_features, int64_t in_features,
                              LinearPrecision precision) const override;
  int64_t packed_expert_bytes(int64_t hidden, int64_t width) const override;
  int64_t embedding_bytes(int64_t rows, int64_t cols, DType stored) const override;
  std::unique_ptr<EmbeddingTable> make_embedding(WeightView table) override;
  std::shared_ptr<const float[]> resident(std::span<const float> values) override;
  std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape) override;
  int64_t kv_page_bytes(const KvShape& shape) const override;
  StagedIndices stage(std::span<const int32_t> values) override;
  StagedIndices stage_places(const KvPool& pool, std::span<const int32_t> slots) override;
  StagedIndices stage_pages(std::span<const Segment> segments, const BlockTable& table) override;
  StagedIndices stage_parts(std::span<const int32_t> rows, int64_t count) override;
  IndexArray upload_staged(OpContext& ctx, const StagedIndices& staged) override;
  void download(OpContext& ctx, Matrix src, std::span<float> dst) override;
  void embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) override;
  void rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) override;
  void linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) override;
  int64_t rope_cols(int64_t head_dim) const override { return 2 * head_dim; }
  void rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                  Matrix cos_sin) override;
  RopeRows rope_rows(std::span<const int32_t> positions, std::span<const float> inv_freq,
                     float factor) override;
  void upload_rope(OpContext& ctx, const RopeRows& made, Matrix cos_sin) override;
  void qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) override;
  void qkv_norm_rope(OpContext& ctx, const QkvArgs& args) override;
  bool separates_qkv() const override { return true; }
  void kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) override;
  void kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
               Matrix v) override;
  void attention(OpContext& ctx, const AttentionArgs& args) override;
  void merge_partials(OpContext& ctx, const MergeArgs& args) override;
  void moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out) override;
  bool merges_partials() const override;
  int32_t merged_at_once() const override;
  void check_partials(const KvShape& shape) override;
  bool combines_experts() const override { return false; }
  void swiglu(OpContext& ctx, Matrix gate_up, Matrix out) override;
  void moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) override;
  void moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                   Matrix out) override;
  void check_split_experts() const override;
  void add_gated(OpContext& ctx, Matrix gate, Matrix y, Matrix out) override;
  void add(OpContext& ctx, Matrix y, Matrix out) override;
  void clear(OpContext& ctx, Matrix out) override;
  void convert(OpContext& ctx, Matrix src, Matrix dst) override;
  void gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) override;
  void log_softmax_at(OpContext& ctx, Matrix logits, IndexArray targets, Matrix out) override;
  void log_sum_exp(OpContext& ctx, Matrix logits, Matrix out) override;

 private:
  void check_described() const;
  void put_column(OpContext& ctx, std::span<const float> values, Matrix out);

  Card& card_;
  const bool halves_apart_;
  DeviceBuffer mask_;  // int8 [2048, 2048], 1 above the diagonal
  DeviceBuffer ones_;  // f32 [kMostHeadDim]
};

}  // namespace longspan::ascend
