#include <cmath>

#include "device/cpu/moe.h"
#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

/// The k largest of logits[n], ties to the lower index, in descending order, by insertion into a short list.
void largest(const float* logits, int64_t n, int64_t k, int32_t* ids) {
  int64_t filled = 0;
  for (int64_t e = 0; e < n; ++e) {
    if (filled == k && !(logits[e] > logits[ids[k - 1]])) continue;
    int64_t at = filled < k ? filled++ : k - 1;
    for (; at > 0 && logits[e] > logits[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = static_cast<int32_t>(e);
  }
}

}  // namespace

void cpu_moe_route(OpContext& ctx, const RowKernels& kernels, Matrix logits, bool normalize, Matrix ids,
                   Matrix weights) {
  check_moe_route(logits, ids, weights);
  const int64_t experts = logits.cols, k = ids.cols;
  parallel_for(ctx.threads, logits.rows, rows_per_turn(8 * experts), [&](int, int64_t t) {
    const float* row = logits.f32(t);
    int32_t* id = ids.row<int32_t>(t);
    float* weight = weights.f32(t);
    largest(row, experts, k, id);
    const float max = row[id[0]];
    const auto sum = static_cast<float>(kernels.exp_sum(row, max, experts));
    float chosen = 0;
    for (int64_t j = 0; j < k; ++j) chosen += weight[j] = std::exp(row[id[j]] - max) / sum;
    for (int64_t j = 0; normalize && j < k; ++j) weight[j] /= chosen;
  });
}

}  // namespace longspan
