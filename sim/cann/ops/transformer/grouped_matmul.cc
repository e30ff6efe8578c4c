#include "ops/transformer/grouped_matmul.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/multiply.h"
#include "core/profile.h"

namespace cann_sim {
namespace {

enum GroupListType : int64_t { kRunningSums, kCounts, kPairs };

// The matrix of some rows of x, which lie one group behind the other.
struct RowGroup {
  int64_t matrix, rows;
};

std::vector<RowGroup> groups_of_counts(const View& list, bool running_sums) {
  std::vector<int64_t> counts = load_integers(list);
  if (running_sums) std::adjacent_difference(counts.begin(), counts.end(), counts.begin());
  std::vector<RowGroup> groups;
  for (size_t i = 0; i < counts.size(); ++i) groups.push_back({static_cast<int64_t>(i), counts[i]});
  return groups;
}

// Groups with rows come first. Behind the first without, nothing needs to be written.
std::vector<RowGroup> groups_of_pairs(const View& list) {
  std::vector<RowGroup> groups;
  std::set<int64_t> seen;
  bool ended = false;
  for (int64_t i = 0; i < list.dim(0); ++i) {
    if (ended && !is_written(list.row(i))) break;
    const std::vector<int64_t> pair = load_integers(list.row(i));
    const RowGroup group{pair[0], pair[1]};
    if (group.rows == 0) {
      ended = true;
      continue;
    }
    if (ended)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: pair {} has {} rows, one before it has none", list.label, i,
           group.rows);
    if (group.matrix < 0 || group.matrix >= list.dim(0))
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: pair {} is of group {}, which is outside 0..{}", list.label, i,
           group.matrix, list.dim(0) - 1);
    if (!seen.insert(group.matrix).second)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: group {} comes twice", list.label, group.matrix);
    groups.push_back(group);
  }
  return groups;
}

std::vector<RowGroup> groups_of(const View& list, int64_t type, int64_t rows) {
  const std::vector<RowGroup> groups =
      type == kPairs ? groups_of_pairs(list) : groups_of_counts(list, type == kRunningSums);
  int64_t sum = 0;
  for (const RowGroup& group : groups) {
    if (group.rows < 0)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION,
           "{}: group {} has {} rows (counts given as running sums, or the other way round?)", list.label,
           group.matrix, group.rows);
    sum += group.rows;
  }
  if (sum > rows)
    fail(ACL_ERROR_RT_AICORE_EXCEPTION,
         "{}: the groups have {} rows, x has {} (counts given as running sums, or the other way round?)",
         list.label, sum, rows);
  return groups;
}

void run(const View& x, const View& w, const View& list, int64_t type, const View& out) {
  const int64_t k = w.dim(1), n = w.dim(2);
  int64_t begin = 0;
  for (const RowGroup& group : groups_of(list, type, x.dim(0))) {
    if (group.rows == 0) continue;
    View from = x, to = out;
    from.data += begin * k * size_of(x.dtype);
    to.data += begin * n * size_of(out.dtype);
    from.dims[0] = to.dims[0] = group.rows;
    const std::vector<float> a = load(from), b = load(w.row(group.matrix));
    std::vector<float> c(static_cast<size_t>(group.rows * n));
    multiply(a.data(), b.data(), c.data(), group.rows, k, n);
    store(to, c);
    begin += group.rows;
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
  call.require(g.group_list_type >= kRunningSums && g.group_list_type <= kPairs,
               "groupListType {} must be 0 (running sums), 1 (counts) or 2 (pairs)", g.group_list_type);
  const bool pairs = g.group_list_type == kPairs;
  call.tiling(!pairs || profile().unquantised_pairs,
              "groupListType 2: CANN {} takes 0 (running sums) and 1 (counts) for weights of floats",
              profile().version);
  call.tiling(!pairs || x.dtype != ACL_FLOAT, "groupListType 2: x is FLOAT, pairs want FLOAT16 or BF16");
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
  call.require(!pairs || w.dim(0) > 1, "groupListType 2 wants more than one group");
  call.dims(groups, pairs ? std::vector<int64_t>{w.dim(0), 2} : std::vector<int64_t>{w.dim(0)});
  call.dims(out, {x.dim(0), w.dim(2)});
  for (const View* view : {&x, &groups, &out}) call.contiguous(*view);
  call.workspace(4096);
  call.flops(2.0 * static_cast<double>(x.count()) * static_cast<double>(w.dim(2)));
  // Which groups have rows is on the card: as many as there can be.
  call.moves(
      static_cast<uint64_t>(x.bytes() + out.bytes() + std::min(w.dim(0), x.dim(0)) * w.row(0).bytes()));
  call.run([x, w, groups, out, type = g.group_list_type] { run(x, w, groups, type, out); });
}

}  // namespace cann_sim
