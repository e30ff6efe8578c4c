// aclnnMoeInitRoutingV3, unquantised. Pairs of experts outside the active range have no row, and -1 for a
// place.
// expertTokensNumType 2: (expert, rows) of those experts of the range that have rows, and (0, 0) where there
// is room; what lies behind is left as it was.

#include "ops/transformer/moe_routing.h"

using namespace cann_sim;

namespace {

void store_pairs(const View& to, const std::vector<int64_t>& counts, int64_t first_expert) {
  std::vector<int64_t> pairs;
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] > 0) pairs.insert(pairs.end(), {first_expert + static_cast<int64_t>(i), counts[i]});
  if (std::ssize(pairs) < to.count()) pairs.insert(pairs.end(), {0, 0});
  store_integers(to.reshaped({std::ssize(pairs)}), pairs);
}

}  // namespace

extern "C" {

aclnnStatus aclnnMoeInitRoutingV3GetWorkspaceSize(
    const aclTensor* x, const aclTensor* expertIdx, const aclTensor* scale, const aclTensor* offset,
    int64_t activeNum, int64_t, int64_t expertNum, int64_t dropPadMode, int64_t expertTokensNumType,
    bool expertTokensNumFlag, int64_t quantMode, const aclIntArray* activeExpertRange, int64_t rowIdxType,
    const aclTensor* expandedXOut, const aclTensor* expandedRowIdxOut,
    const aclTensor* expertTokensCountOrCumsumOut, const aclTensor* expandedScaleOut, CANN_SIM_WS) {
  return describe("aclnnMoeInitRoutingV3", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("x", x, kFloats), ids = call.in("expertIdx", expertIdx, {ACL_INT32});
    const View expanded = call.out("expandedXOut", expandedXOut, kFloats);
    const View places = call.out("expandedRowIdxOut", expandedRowIdxOut, {ACL_INT32});
    const View counts = call.out("expertTokensCountOrCumsumOut", expertTokensCountOrCumsumOut, {ACL_INT64});
    const View scales = call.out("expandedScaleOut", expandedScaleOut, {ACL_FLOAT});
    check_expansion(call, in, ids, expanded, places);
    call.dims(scales, {ids.count()});
    call.contiguous(scales);
    call.require(activeNum == ids.count(), "activeNum {} must be rows * k = {}", activeNum, ids.count());
    call.require(dropPadMode == 0, "dropPadMode {} must be 0", dropPadMode);
    call.require(expertTokensNumType == 1 || expertTokensNumType == 2,
                 "expertTokensNumType {} must be 1 (counts) or 2 (pairs)", expertTokensNumType);
    const bool pairs = expertTokensNumType == 2;
    const int64_t most = pairs ? 5120 : 10240;
    call.require(expertNum <= most, "expertNum {} must be at most {} where expertTokensNumType is {}",
                 expertNum, most, expertTokensNumType);
    call.require(expertTokensNumFlag, "expertTokensNumFlag must be true");
    call.require(quantMode == -1, "quantMode {}: the simulator knows -1 (none) only", quantMode);
    call.absent("scale", scale);
    call.absent("offset", offset);
    const std::vector<int64_t> range = call.integers("activeExpertRange", activeExpertRange);
    call.require(range.size() == 2 && range[0] >= 0 && range[0] < range[1] && range[1] <= expertNum,
                 "activeExpertRange must be [start, end) within 0..{}", expertNum);
    call.require(rowIdxType == 0 || rowIdxType == 1, "rowIdxType {} must be 0 (gather) or 1 (scatter)",
                 rowIdxType);
    call.require(rowIdxType == 0 || range[1] - range[0] == expertNum,
                 "rowIdxType 1: the simulator knows it with every expert active only");
    call.dims(counts, pairs ? std::vector<int64_t>{expertNum, 2} : std::vector<int64_t>{range[1] - range[0]});
    call.contiguous(counts);
    call.workspace(1024);
    call.run([=] {
      const std::vector<int64_t> tokens =
          expand_by_expert(in, ids, expertNum, expanded, places, range[0], range[1], rowIdxType == 1);
      if (pairs)
        store_pairs(counts, tokens, range[0]);
      else
        store_integers(counts, tokens);
    });
  });
}
CANN_SIM_LAUNCH(aclnnMoeInitRoutingV3)

}  // extern "C"
