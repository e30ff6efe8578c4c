#include "ops/transformer/moe_routing.h"

#include <algorithm>

namespace cann_sim {

std::vector<int64_t> expand_by_expert(const View& x, const View& expert_ids, int64_t experts,
                                      const View& expanded_x, const View& expanded_row_idx, int64_t begin,
                                      int64_t end, bool sources) {
  const std::vector<int64_t> ids = load_integers(expert_ids);
  const int64_t k = expert_ids.dim(1);
  const auto active = [&](size_t i) { return ids[i] >= begin && ids[i] < end; };
  std::vector<int64_t> counts(static_cast<size_t>(end - begin));
  std::vector<size_t> sorted;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= experts)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}[{}] = {} is outside 0..{}", expert_ids.label, i, ids[i],
           experts - 1);
    if (!active(i)) continue;
    ++counts[ids[i] - begin];
    sorted.push_back(i);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [&](size_t a, size_t b) { return ids[a] < ids[b]; });
  std::vector<int64_t> place(ids.size(), -1);
  for (size_t i = 0; i < sorted.size(); ++i) {
    place[sorted[i]] = static_cast<int64_t>(i);
    store_bytes(expanded_x.row(static_cast<int64_t>(i)),
                load_bytes(x.row(static_cast<int64_t>(sorted[i]) / k)));
  }
  store_integers(expanded_row_idx, sources ? std::vector<int64_t>(sorted.begin(), sorted.end()) : place);
  return counts;
}

void check_expansion(Call& call, const View& x, const View& ids, const View& expanded_x,
                     const View& row_idx) {
  call.rank(x, 2, 2);
  call.rank(ids, 2, 2);
  call.require(x.count() > 0, "x is empty");
  call.require(ids.dim(0) == x.dim(0), "expertIdx {} and x {} must have as many rows", text_of(ids.dims),
               text_of(x.dims));
  call.same_dtype(x, expanded_x);
  call.dims(expanded_x, {ids.count(), x.dim(1)});
  call.dims(row_idx, {ids.count()});
  for (const View* view : {&x, &ids, &expanded_x, &row_idx}) call.contiguous(*view);
}

}  // namespace cann_sim
