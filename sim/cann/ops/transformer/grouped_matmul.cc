#include "ops/transformer/grouped_matmul.h"

#include <algorithm>
#include <numeric>

#include "core/multiply.h"

namespace cann_sim {
namespace {

// Rows of each group, from counts or their running sums.
std::vector<int64_t> group_rows(const View& list, bool cumulative, int64_t rows) {
  std::vector<int64_t> counts = load_integers(list);
  if (cumulative) std::adjacent_difference(counts.begin(), counts.end(), counts.begin());
  for (size_t e = 0; e < counts.size(); ++e)
    if (counts[e] < 0)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION,
           "{}: group {} has {} rows (counts given as running sums, or the other way round?)", list.label, e,
           counts[e]);
  const int64_t sum = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (sum > rows)
    fail(ACL_ERROR_RT_AICORE_EXCEPTION,
         "{}: the groups have {} rows, x has {} (counts given as running sums, or the other way round?)",
         list.label, sum, rows);
  return counts;
}

void run(const View& x, const View& w, const View& groups, bool cumulative, const View& out) {
  const int64_t k = w.dim(1), n = w.dim(2);
  int64_t begin = 0;
  const std::vector<int64_t> counts = group_rows(groups, cumulative, x.dim(0));
  for (size_t e = 0; e < counts.size(); ++e) {
    if (counts[e] == 0) continue;
    View from = x, to = out;
    from.data += begin * k * size_of(x.dtype);
    to.data += begin * n * size_of(out.dtype);
    from.dims[0] = to.dims[0] = counts[e];
    const std::vector<float> a = load(from), b = load(w.row(static_cast<int64_t>(e)));
    std::vector<float> c(static_cast<size_t>(counts[e] * n));
    multiply(a.data(), b.data(), c.data(), counts[e], k, n);
    store(to, c);
    begin += counts[e];
  }
}

}  // namespace

void describe_grouped_matmul(Call& call, const GroupedMatmul& g) {
  const View x = call.in_single("x", g.x, kFloats), w = call.in_single("weight", g.weight, kFloats);
  const View out = call.out_single("out", g.out, kFloats);
  const View groups = call.in("groupList", g.group_list, {ACL_INT64});
  const std::pair<const char*, const void*> refused[] = {{"bias", g.bias},
                                                         {"scale", g.scale},
                                                         {"offset", g.offset},
                                                         {"antiquantScale", g.antiquant_scale},
                                                         {"antiquantOffset", g.antiquant_offset},
                                                         {"perTokenScale", g.per_token_scale},
                                                         {"activationInput", g.activation_input},
                                                         {"activationQuantScale", g.activation_quant_scale},
                                                         {"activationQuantOffset", g.activation_quant_offset},
                                                         {"activationFeatureOut", g.activation_feature_out},
                                                         {"dynQuantScaleOut", g.dyn_quant_scale_out}};
  for (const auto& [name, argument] : refused) call.absent(name, argument);
  call.require(g.split_item == 2 || g.split_item == 3, "splitItem {}: one output wants 2 or 3", g.split_item);
  call.require(g.group_type == 0, "groupType {}: the simulator knows 0 (rows) only", g.group_type);
  call.require(g.group_list_type == 0 || g.group_list_type == 1,
               "groupListType {}: the simulator knows 0 (running sums) and 1 (counts)", g.group_list_type);
  call.require(g.act_type == 0, "actType {} must be 0 for unquantised weights", g.act_type);
  call.rank(x, 2, 2);
  call.rank(w, 3, 3);
  call.same_dtype(x, w);
  call.same_dtype(x, out);
  call.require(w.dim(0) <= 1024, "weight has {} groups, 1024 at most", w.dim(0));
  call.require(x.dim(1) == w.dim(1), "x is {}, weight is {}: the inner dims disagree", text_of(x.dims),
               text_of(w.dims));
  call.require(w.dim(1) < 65536 && w.dim(2) < 65536, "inner dims of weight {} must be below 65536",
               text_of(w.dims));
  call.dims(groups, {w.dim(0)});
  call.dims(out, {x.dim(0), w.dim(2)});
  for (const View* view : {&x, &groups, &out}) call.contiguous(*view);
  call.workspace(4096);
  call.flops(2.0 * static_cast<double>(x.count()) * static_cast<double>(w.dim(2)));
  // Which groups have rows is on the card: as many as there can be.
  call.moves(
      static_cast<uint64_t>(x.bytes() + out.bytes() + std::min(w.dim(0), x.dim(0)) * w.row(0).bytes()));
  call.run([x, w, groups, out, cumulative = g.group_list_type == 0] { run(x, w, groups, cumulative, out); });
}

}  // namespace cann_sim
