#include "device/cpu/norm_rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

template <class F>
void for_rows(OpContext& ctx, int64_t rows, int64_t elements, F&& f) {
  parallel_for(ctx.threads, rows, rows_per_turn(elements), [&](int, int64_t t) { f(t); });
}

void copy_floats(const float* src, int64_t n, float* dst) {
  if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace

void cpu_embedding(OpContext& ctx, const RowKernels& kernels, IndexArray ids, WeightView table, Matrix out) {
  check_embedding(ids, table, out);
  for_rows(ctx, out.rows, out.cols, [&](int64_t t) {
    const WeightView row = table.slice_rows(ids.host[t], 1);
    if (row.dtype == DType::kBF16 && reinterpret_cast<uintptr_t>(row.data) % alignof(uint16_t) == 0) {
      kernels.from_bf16(static_cast<const uint16_t*>(row.data), out.cols, out.f32(t));
    } else {
      for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] = row.at(0, i);
    }
  });
}

void cpu_rms_norm(OpContext& ctx, const RowKernels& kernels, Matrix x, const float* weight, float eps,
                  Matrix out) {
  check_rms_norm(x, weight, out);
  for_rows(ctx, x.rows, x.cols,
           [&](int64_t t) { kernels.rms_norm(x.f32(t), weight, eps, x.cols, out.f32(t)); });
}

void cpu_rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                    Matrix cos_sin) {
  check_rope_table(positions, inv_freq, cos_sin);
  const size_t half = inv_freq.size();
  for_rows(ctx, cos_sin.rows, 32 * cos_sin.cols, [&](int64_t t) {
    float* row = cos_sin.f32(t);
    for (size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions.host[t]) * inv_freq[i];
      row[i] = std::cos(angle) * factor;
      row[half + i] = std::sin(angle) * factor;
    }
  });
}

void cpu_qk_norm_rope(OpContext& ctx, const RowKernels& kernels, const QkNormRopeArgs& args) {
  check_qk_norm_rope(args);
  const int32_t dim = args.head_dim;
  for_rows(ctx, args.x.rows, args.x.cols, [&](int64_t t) {
    const float* cos = args.cos_sin.data == nullptr ? nullptr : args.cos_sin.f32(t);
    for (int32_t h = 0; h < args.heads; ++h) {
      float* head = args.x.f32(t) + int64_t{h} * dim;
      if (args.norm_weight != nullptr) kernels.rms_norm(head, args.norm_weight, args.eps, dim, head);
      if (cos != nullptr) kernels.rotate_half(head, cos, cos + dim / 2, dim);
    }
  });
}

void cpu_swiglu(OpContext& ctx, const RowKernels& kernels, Matrix gate_up, Matrix out) {
  check_swiglu(gate_up, out);
  for_rows(ctx, out.rows, 4 * out.cols, [&](int64_t t) {
    kernels.swiglu(gate_up.f32(t), gate_up.f32(t) + out.cols, out.cols, out.f32(t));
  });
}

void cpu_add_gated(OpContext& ctx, const RowKernels& kernels, Matrix gate, Matrix y, Matrix out) {
  check_add_gated(gate, y, out);
  for_rows(ctx, out.rows, out.cols, [&](int64_t t) {
    kernels.add_scaled(y.f32(t), 1.0f / (1.0f + std::exp(-gate.f32(t)[0])), out.cols, out.f32(t));
  });
}

void cpu_add(OpContext& ctx, const RowKernels& kernels, Matrix y, Matrix out) {
  check_add(y, out);
  for_rows(ctx, out.rows, out.cols, [&](int64_t t) { kernels.add(y.f32(t), out.cols, out.f32(t)); });
}

void cpu_clear(OpContext& ctx, Matrix out) {
  check_f32(out, "clear", "out");
  for_rows(ctx, out.rows, out.cols, [&](int64_t t) { std::fill_n(out.f32(t), out.cols, 0.0f); });
}

void cpu_log_sum_exp(OpContext& ctx, const RowKernels& kernels, Matrix logits, Matrix out) {
  check_log_sum_exp(logits, out);
  for_rows(ctx, logits.rows, 4 * logits.cols, [&](int64_t i) {
    const float max = kernels.max(logits.f32(i), logits.cols);
    out.f32(i)[0] = max + static_cast<float>(std::log(kernels.exp_sum(logits.f32(i), max, logits.cols)));
  });
}

void cpu_convert(OpContext& ctx, const RowKernels& kernels, Matrix src, Matrix dst) {
  check_convert(src, dst);
  const bool from_bf16 = src.dtype == DType::kBF16, to_bf16 = dst.dtype == DType::kBF16;
  for_rows(ctx, src.rows, src.cols, [&](int64_t t) {
    if (from_bf16 && to_bf16)
      std::memmove(dst.row<uint16_t>(t), src.row<uint16_t>(t), static_cast<size_t>(src.cols) * 2);
    else if (from_bf16)
      kernels.from_bf16(src.row<uint16_t>(t), src.cols, dst.f32(t));
    else if (to_bf16)
      kernels.to_bf16(src.f32(t), src.cols, dst.row<uint16_t>(t));
    else
      copy_floats(src.f32(t), src.cols, dst.f32(t));
  });
}

void cpu_gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) {
  check_gather_rows(x, rows, out);
  for_rows(ctx, out.rows, out.cols,
           [&](int64_t i) { copy_floats(x.f32(rows.host[i]), out.cols, out.f32(i)); });
}

void cpu_log_softmax_at(OpContext& ctx, const RowKernels& kernels, Matrix logits, IndexArray targets,
                        Matrix out) {
  check_log_softmax_at(logits, targets, out);
  for_rows(ctx, logits.rows, 4 * logits.cols, [&](int64_t i) {
    const float* row = logits.f32(i);
    const float max = kernels.max(row, logits.cols);
    const double log_sum = std::log(kernels.exp_sum(row, max, logits.cols));
    out.f32(i)[0] = row[targets.host[i]] - max - static_cast<float>(log_sum);
  });
}

void cpu_download(OpContext& ctx, Matrix src, std::span<float> dst) {
  check_download(src, dst);
  for_rows(ctx, src.rows, src.cols,
           [&](int64_t t) { copy_floats(src.f32(t), src.cols, dst.data() + t * src.cols); });
}

}  // namespace longspan
