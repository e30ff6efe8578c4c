#include <cmath>
#include <limits>
#include <vector>

#include "device/op_checks.h"
#include "device/reference/reference_ops.h"

namespace longspan {

void ReferenceOps::merge_partials(OpContext&, const MergeArgs& args) {
  check_merge_partials(args);
  if (args.out.rows == 0) return;
  const int64_t rows = args.out.rows, dim = args.out.cols / args.heads_q;
  const int64_t parts = args.rows.size / rows;
  for (int64_t t = 0; t < rows; ++t) {
    for (int32_t head = 0; head < args.heads_q; ++head) {
      double sum = 0;
      float max = -std::numeric_limits<float>::infinity();
      const auto each = [&](auto visit) {
        for (int64_t i = 0; i < parts; ++i) {
          const int32_t row = args.rows.host[i * rows + t];
          if (row < 0 || std::isinf(args.lse_ln.f32(row)[head])) continue;
          visit(args.lse_ln.f32(row)[head], args.partials.f32(row) + head * dim);
        }
      };
      each([&](float lse, const float*) { max = std::max(max, lse); });
      each([&](float lse, const float*) { sum += std::exp(double{lse} - max); });
      std::vector<double> out(static_cast<size_t>(dim), 0.0);
      each([&](float lse, const float* partial) {
        for (int64_t d = 0; d < dim; ++d)
          out[static_cast<size_t>(d)] += std::exp(double{lse} - max) / sum * partial[d];
      });
      for (int64_t d = 0; d < dim; ++d)
        args.out.f32(t)[head * dim + d] = static_cast<float>(out[static_cast<size_t>(d)]);
      if (args.out_lse_ln.data != nullptr)
        args.out_lse_ln.f32(t)[head] = static_cast<float>(max + std::log(sum));
    }
  }
}

void ReferenceOps::moe_combine(OpContext&, Matrix partials, IndexArray rows, Matrix out) {
  check_moe_combine(partials, rows, out);
  if (out.rows == 0) return;
  const int64_t parts = rows.size / out.rows;
  for (int64_t t = 0; t < out.rows; ++t) {
    std::vector<float> sum;
    for (int64_t i = 0; i < parts; ++i) {
      const int32_t row = rows.host[i * out.rows + t];
      if (row < 0) continue;
      const float* part = partials.f32(row);
      if (sum.empty())
        sum.assign(part, part + out.cols);
      else
        for (int64_t h = 0; h < out.cols; ++h) sum[static_cast<size_t>(h)] += part[h];
    }
    for (size_t h = 0; h < sum.size(); ++h) out.f32(t)[h] += sum[h];
  }
}

}  // namespace longspan
