#pragma once

#include "device/cpu/row_kernels.h"
#include "device/ops.h"

namespace longspan {

/// The ops that work row by row, see ops.h.
void cpu_embedding(OpContext& ctx, const RowKernels& kernels, IndexArray ids, WeightView table, Matrix out);
void cpu_rms_norm(OpContext& ctx, const RowKernels& kernels, Matrix x, const float* weight, float eps,
                  Matrix out);
void cpu_rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                    Matrix cos_sin);
void cpu_qk_norm_rope(OpContext& ctx, const RowKernels& kernels, const QkNormRopeArgs& args);
void cpu_swiglu(OpContext& ctx, const RowKernels& kernels, Matrix gate_up, Matrix out);
void cpu_add_gated(OpContext& ctx, const RowKernels& kernels, Matrix gate, Matrix y, Matrix out);
void cpu_add(OpContext& ctx, const RowKernels& kernels, Matrix y, Matrix out);
void cpu_clear(OpContext& ctx, Matrix out);
void cpu_log_sum_exp(OpContext& ctx, const RowKernels& kernels, Matrix logits, Matrix out);
void cpu_convert(OpContext& ctx, const RowKernels& kernels, Matrix src, Matrix dst);
void cpu_gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out);
void cpu_log_softmax_at(OpContext& ctx, const RowKernels& kernels, Matrix logits, IndexArray targets,
                        Matrix out);
void cpu_download(OpContext& ctx, Matrix src, std::span<float> dst);

}  // namespace longspan
