#include "device/reference/reference_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "device/op_checks.h"

namespace longspan {

std::string ReferenceOps::name() const {
  return fmt::format("reference {}", int8_ ? "int8" : to_string(compute_));
}

void ReferenceOps::download(OpContext&, Matrix src, std::span<float> dst) {
  check_download(src, dst);
  for (int64_t t = 0; t < src.rows; ++t)
    for (int64_t i = 0; i < src.cols; ++i) dst[static_cast<size_t>(t * src.cols + i)] = src.f32(t)[i];
}

void ReferenceOps::embedding(OpContext&, IndexArray ids, const EmbeddingTable& table, Matrix out) {
  check_embedding(ids, table.view, out);
  for (int64_t t = 0; t < out.rows; ++t)
    for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] = table.view.at(ids.host[t], i);
}

void ReferenceOps::rms_norm(OpContext&, Matrix x, const float* weight, float eps, Matrix out) {
  check_rms_norm(x, weight, out);
  for (int64_t t = 0; t < x.rows; ++t) {
    float squares = 0;
    for (int64_t i = 0; i < x.cols; ++i) squares += x.f32(t)[i] * x.f32(t)[i];
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(x.cols) + eps);
    for (int64_t i = 0; i < x.cols; ++i) out.f32(t)[i] = x.f32(t)[i] * scale * weight[i];
  }
}

void ReferenceOps::rope_table(OpContext&, IndexArray positions, std::span<const float> inv_freq, float factor,
                              Matrix cos_sin) {
  check_rope_table(positions, inv_freq, cos_sin);
  const size_t half = inv_freq.size();
  for (int64_t t = 0; t < cos_sin.rows; ++t) {
    for (size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions.host[t]) * inv_freq[i];
      cos_sin.f32(t)[i] = std::cos(angle) * factor;
      cos_sin.f32(t)[half + i] = std::sin(angle) * factor;
    }
  }
}

void ReferenceOps::qk_norm_rope(OpContext&, const QkNormRopeArgs& args) {
  check_qk_norm_rope(args);
  const int32_t dim = args.head_dim;
  for (int64_t t = 0; t < args.x.rows; ++t) {
    for (int32_t h = 0; h < args.heads; ++h) {
      float* x = args.x.f32(t) + h * dim;
      if (args.norm_weight != nullptr) {
        float squares = 0;
        for (int32_t i = 0; i < dim; ++i) squares += x[i] * x[i];
        const float scale = 1.0f / std::sqrt(squares / static_cast<float>(dim) + args.eps);
        for (int32_t i = 0; i < dim; ++i) x[i] = x[i] * scale * args.norm_weight[i];
      }
      if (args.cos_sin.data == nullptr) continue;
      const float* cos = args.cos_sin.f32(t);
      const float* sin = cos + dim / 2;
      for (int32_t i = 0; i < dim / 2; ++i) {
        const float low = x[i], high = x[i + dim / 2];
        x[i] = low * cos[i] - high * sin[i];
        x[i + dim / 2] = high * cos[i] + low * sin[i];
      }
    }
  }
}

void ReferenceOps::swiglu(OpContext&, Matrix gate_up, Matrix out) {
  check_swiglu(gate_up, out);
  for (int64_t t = 0; t < out.rows; ++t) {
    for (int64_t i = 0; i < out.cols; ++i) {
      const float gate = gate_up.f32(t)[i];
      out.f32(t)[i] = gate / (1.0f + std::exp(-gate)) * gate_up.f32(t)[out.cols + i];
    }
  }
}

void ReferenceOps::add_gated(OpContext&, Matrix gate, Matrix y, Matrix out) {
  check_add_gated(gate, y, out);
  for (int64_t t = 0; t < out.rows; ++t) {
    const float weight = 1.0f / (1.0f + std::exp(-gate.f32(t)[0]));
    for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] += weight * y.f32(t)[i];
  }
}

void ReferenceOps::convert(OpContext&, Matrix src, Matrix dst) {
  check_convert(src, dst);
  for (int64_t t = 0; t < src.rows; ++t) {
    for (int64_t i = 0; i < src.cols; ++i) {
      const float value = load_f32(src.data, src.dtype, t * src.row_stride + i);
      if (dst.dtype == DType::kF32)
        dst.f32(t)[i] = value;
      else
        dst.row<uint16_t>(t)[i] = f32_to_bf16(value);
    }
  }
}

void ReferenceOps::add(OpContext&, Matrix y, Matrix out) {
  check_add(y, out);
  for (int64_t t = 0; t < out.rows; ++t)
    for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] += y.f32(t)[i];
}

void ReferenceOps::clear(OpContext&, Matrix out) {
  check_f32(out, "clear", "out");
  for (int64_t t = 0; t < out.rows; ++t)
    for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] = 0;
}

void ReferenceOps::log_sum_exp(OpContext&, Matrix logits, Matrix out) {
  check_log_sum_exp(logits, out);
  for (int64_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.f32(t);
    const float max = *std::max_element(row, row + logits.cols);
    double sum = 0;
    for (int64_t i = 0; i < logits.cols; ++i) sum += std::exp(row[i] - max);
    out.f32(t)[0] = max + static_cast<float>(std::log(sum));
  }
}

void ReferenceOps::gather_rows(OpContext&, Matrix x, IndexArray rows, Matrix out) {
  check_gather_rows(x, rows, out);
  for (int64_t t = 0; t < out.rows; ++t)
    for (int64_t i = 0; i < out.cols; ++i) out.f32(t)[i] = x.f32(rows.host[t])[i];
}

void ReferenceOps::log_softmax_at(OpContext&, Matrix logits, IndexArray targets, Matrix out) {
  check_log_softmax_at(logits, targets, out);
  for (int64_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.f32(t);
    float max = row[0];
    for (int64_t i = 1; i < logits.cols; ++i) max = std::max(max, row[i]);
    double sum = 0;  // f32 would lose the small terms of a large vocabulary
    for (int64_t i = 0; i < logits.cols; ++i) sum += std::exp(row[i] - max);
    out.f32(t)[0] = row[targets.host[t]] - max - static_cast<float>(std::log(sum));
  }
}

}  // namespace longspan
