#include "device/cpu/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

constexpr float kNoKeys = -std::numeric_limits<float>::infinity();

// One head of row t. out may be part 0, which is read before it is written.
void merge_head(const MergeArgs& args, int64_t parts, int64_t t, int32_t head) {
  const int64_t dim = args.out.cols / args.heads_q;
  float* out = args.out.f32(t) + head * dim;
  const auto row_of = [&](int64_t part) { return args.rows.host[part * args.out.rows + t]; };
  const auto lse_of = [&](int64_t part) {
    const int32_t row = row_of(part);
    return row < 0 ? kNoKeys : args.lse_ln.f32(row)[head];
  };
  float max = kNoKeys;
  for (int64_t i = 0; i < parts; ++i) max = std::max(max, lse_of(i));
  float sum = 0;
  for (int64_t i = 0; i < parts && max > kNoKeys; ++i) sum += std::exp(lse_of(i) - max);

  bool written = false;
  for (int64_t i = 0; i < parts && max > kNoKeys; ++i) {
    const float lse = lse_of(i);
    if (lse == kNoKeys) continue;
    const float weight = std::exp(lse - max) / sum;
    const float* partial = args.partials.f32(row_of(i)) + head * dim;
    if (written) {
      for (int64_t d = 0; d < dim; ++d) out[d] += weight * partial[d];
    } else {
      for (int64_t d = 0; d < dim; ++d) out[d] = weight * partial[d];
    }
    written = true;
  }
  if (!written) std::fill_n(out, dim, 0.0f);
  if (args.out_lse_ln.data != nullptr) args.out_lse_ln.f32(t)[head] = written ? max + std::log(sum) : kNoKeys;
}

}  // namespace

void cpu_merge_partials(OpContext& ctx, const MergeArgs& args) {
  check_merge_partials(args);
  if (args.out.rows == 0) return;
  const int64_t parts = args.rows.size / args.out.rows;
  parallel_for(ctx.threads, args.out.rows, rows_per_turn(parts * args.out.cols), [&](int, int64_t t) {
    for (int32_t head = 0; head < args.heads_q; ++head) merge_head(args, parts, t, head);
  });
}

void cpu_moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out) {
  check_moe_combine(partials, rows, out);
  if (out.rows == 0) return;
  const int64_t parts = rows.size / out.rows;
  parallel_for(ctx.threads, out.rows, rows_per_turn(parts * out.cols), [&](int, int64_t t) {
    constexpr int64_t kBlock = 512;
    float sum[kBlock];
    for (int64_t begin = 0; begin < out.cols; begin += kBlock) {
      const int64_t count = std::min(kBlock, out.cols - begin);
      bool any = false;
      for (int64_t i = 0; i < parts; ++i) {
        const int32_t row = rows.host[i * out.rows + t];
        if (row < 0) continue;
        const float* part = partials.f32(row) + begin;
        for (int64_t h = 0; h < count; ++h) sum[h] = any ? sum[h] + part[h] : part[h];
        any = true;
      }
      for (int64_t h = 0; any && h < count; ++h) out.f32(t)[begin + h] += sum[h];
    }
  });
}

}  // namespace longspan
