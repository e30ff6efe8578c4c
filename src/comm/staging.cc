#include "comm/staging.h"

namespace longspan {
namespace {

constexpr int64_t kFloat = sizeof(float);

}  // namespace

Staging all_reduce_staging(int64_t floats, int32_t ranks) {
  const int64_t small = std::min(floats * kFloat, kSmallSum);
  Staging staging{.outgoing = (ranks - 1) * small, .incoming = ranks * small};
  if (floats * kFloat <= kSmallSum) return staging;
  const int64_t round = std::min(floats, kSumRound / kFloat);
  const int64_t longest_part = (round + ranks - 1) / ranks, shortest_part = round / ranks;
  // The parts of others go out, then the sums of the rank's own.
  return staging.grow({.outgoing = std::max(round - shortest_part, longest_part) * kFloat,
                       .incoming = longest_part * ranks * kFloat});
}

Staging reduce_scatter_staging(int64_t longest_range, int32_t ranks) {
  const int64_t part = std::min(longest_range, kSumRound / kFloat / ranks) * kFloat;
  return {.outgoing = (ranks - 1) * part, .incoming = ranks * part};
}

}  // namespace longspan
