#include "device/cpu/cpu_ops.h"

#include <fmt/format.h>

#include <cstring>

#include "device/cpu/attention.h"
#include "device/cpu/kv_pages.h"
#include "device/cpu/linear.h"
#include "device/cpu/merge.h"
#include "device/cpu/moe.h"
#include "device/cpu/norm_rope.h"

namespace longspan {
namespace {

Arithmetic arithmetic_for(DType compute, Isa isa) {
  if (compute == DType::kF32) return Arithmetic::kF32;
  return isa >= Isa::kAvx512Bf16 ? Arithmetic::kBf16 : Arithmetic::kF32FromBf16;
}

std::string_view describe(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kF32:
      return "f32";
    case Arithmetic::kF32FromBf16:
      return "f32 with bf16 weights";
    case Arithmetic::kBf16:
      return "bf16";
    case Arithmetic::kInt8:
      return "int8";
  }
  return "?";
}

}  // namespace

CpuOps::CpuOps(DType compute, bool int8, Isa isa)
    : compute_(compute),
      isa_(isa),
      unquantized_(arithmetic_for(compute, isa)),
      arithmetic_(int8 ? Arithmetic::kInt8 : unquantized_),
      kernels_(isa) {}

Arithmetic CpuOps::arithmetic_of(LinearPrecision precision) const {
  if (precision == LinearPrecision::kF32) return Arithmetic::kF32;
  return precision == LinearPrecision::kUnquantized ? unquantized_ : arithmetic_;
}

std::string CpuOps::name() const {
  return fmt::format("cpu {} {}", to_string(isa_), describe(arithmetic_));
}

std::unique_ptr<LinearWeight> CpuOps::pack_linear(std::span<const WeightView> stacked,
                                                  std::span<const WeightView> biases,
                                                  LinearPrecision precision) {
  return cpu_pack_linear(stacked, biases, kernels_, arithmetic_of(precision));
}

std::unique_ptr<ExpertWeights> CpuOps::pack_experts(std::span<const ExpertSource> experts,
                                                    int32_t first_expert, const ExpertPacked& packed) {
  return cpu_pack_experts(experts, first_expert, arithmetic_, packed);
}

int64_t CpuOps::packed_linear_bytes(int64_t out_features, int64_t in_features,
                                    LinearPrecision precision) const {
  return cpu_packed_linear_bytes(out_features, in_features, arithmetic_of(precision));
}

int64_t CpuOps::packed_expert_bytes(int64_t hidden, int64_t width) const {
  return cpu_packed_expert_bytes(hidden, width, arithmetic_);
}

std::unique_ptr<KvPool> CpuOps::make_kv_pool(const KvShape& shape) {
  return make_cpu_kv_pool(shape, compute_);
}

int64_t CpuOps::kv_page_bytes(const KvShape& shape) const {
  return cpu_kv_page_bytes(shape, compute_);
}

void CpuOps::download(OpContext& ctx, Matrix src, std::span<float> dst) {
  cpu_download(ctx, src, dst);
}

void CpuOps::embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) {
  cpu_embedding(ctx, kernels_.rows, ids, table.view, out);
}

void CpuOps::rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) {
  cpu_rms_norm(ctx, kernels_.rows, x, weight, eps, out);
}

void CpuOps::linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) {
  cpu_linear(ctx, kernels_, x, w, out, accumulate);
}

void CpuOps::rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                        Matrix cos_sin) {
  cpu_rope_table(ctx, positions, inv_freq, factor, cos_sin);
}

void CpuOps::qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) {
  cpu_qk_norm_rope(ctx, kernels_.rows, args);
}

void CpuOps::kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) {
  cpu_kv_write(ctx, pool, layer, k, v, to.slots);
}

void CpuOps::kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
                     Matrix v) {
  cpu_kv_read(ctx, pool, layer, from.slots, k, v);
}

void CpuOps::attention(OpContext& ctx, const AttentionArgs& args) {
  cpu_attention(ctx, args, isa_);
}

void CpuOps::merge_partials(OpContext& ctx, const MergeArgs& args) {
  cpu_merge_partials(ctx, args);
}

void CpuOps::moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out) {
  cpu_moe_combine(ctx, partials, rows, out);
}

void CpuOps::swiglu(OpContext& ctx, Matrix gate_up, Matrix out) {
  cpu_swiglu(ctx, kernels_.rows, gate_up, out);
}

void CpuOps::moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) {
  cpu_moe_route(ctx, kernels_.rows, logits, normalize, ids, weights);
}

void CpuOps::moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                         Matrix out) {
  cpu_moe_experts(ctx, kernels_, x, ids, weights, experts, out);
}

void CpuOps::add_gated(OpContext& ctx, Matrix gate, Matrix y, Matrix out) {
  cpu_add_gated(ctx, kernels_.rows, gate, y, out);
}

void CpuOps::add(OpContext& ctx, Matrix y, Matrix out) {
  cpu_add(ctx, kernels_.rows, y, out);
}

void CpuOps::clear(OpContext& ctx, Matrix out) {
  cpu_clear(ctx, out);
}

void CpuOps::log_sum_exp(OpContext& ctx, Matrix logits, Matrix out) {
  cpu_log_sum_exp(ctx, kernels_.rows, logits, out);
}

void CpuOps::convert(OpContext& ctx, Matrix src, Matrix dst) {
  cpu_convert(ctx, kernels_.rows, src, dst);
}

void CpuOps::gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) {
  cpu_gather_rows(ctx, x, rows, out);
}

void CpuOps::log_softmax_at(OpContext& ctx, Matrix logits, IndexArray targets, Matrix out) {
  cpu_log_softmax_at(ctx, kernels_.rows, logits, targets, out);
}

}  // namespace longspan
