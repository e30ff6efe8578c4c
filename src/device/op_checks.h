#pragma once

#include "device/ops.h"

namespace longspan {

/// The shape checks that every backend makes at op entry; the letters are those of ops.h. Each throws
/// Error(kInternal) naming the op and the symbol that disagrees.
void check_f32(Matrix m, const char* op, const char* name);
void check_embedding(IndexArray ids, WeightView table, Matrix out);
void check_rms_norm(Matrix x, const float* weight, Matrix out);
// `inner`: a dtype that x and out may have instead of f32, here and below.
void check_linear(Matrix x, const LinearWeight& w, Matrix out, DType inner = DType::kF32);
// `cols`: of the table for each element of a head.
void check_rope_table(IndexArray positions, std::span<const float> inv_freq, Matrix cos_sin,
                      int64_t cols = 1);
void check_qk_norm_rope(const QkNormRopeArgs& args, int64_t cols = 1, DType inner = DType::kF32);
void check_qkv(const QkvArgs& args, int64_t cols = 1, DType inner = DType::kF32);
void check_attention(const AttentionArgs& args, DType inner = DType::kF32);
void check_swiglu(Matrix gate_up, Matrix out, DType inner = DType::kF32);
void check_moe_route(Matrix logits, Matrix ids, Matrix weights);
void check_moe_experts(Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts, Matrix out);
void check_add_gated(Matrix gate, Matrix y, Matrix out);
void check_add(Matrix y, Matrix out);
void check_log_sum_exp(Matrix logits, Matrix out);
void check_convert(Matrix src, Matrix dst);
void check_gather_rows(Matrix x, IndexArray rows, Matrix out, DType inner = DType::kF32);
void check_log_softmax_at(Matrix logits, IndexArray targets, Matrix out);
void check_merge_partials(const MergeArgs& args, DType inner = DType::kF32);
void check_moe_combine(Matrix partials, IndexArray rows, Matrix out);
void check_download(Matrix src, std::span<float> dst);

/// Output rows in all of weights stacked for one multiply; checks that their inputs agree and that biases
/// fit.
int64_t check_stacked(std::span<const WeightView> stacked, std::span<const WeightView> biases);
/// The biases of weights stacked for one multiply, zeros where one has none: [out], or empty where none has.
std::vector<float> stacked_bias(std::span<const WeightView> stacked, std::span<const WeightView> biases);
/// Checks that all experts have one shape, and describes them in `weights`.
void describe_experts(std::span<const ExpertSource> experts, int32_t first_expert, ExpertWeights& weights);

}  // namespace longspan
