// aclnnMoeInitRoutingV3, unquantised. Pairs of experts outside the active range have no row, and -1 for a
// place.

#include "ops/transformer/moe_routing.h"

using namespace cann_sim;

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
    call.require(expertTokensNumType == 1, "expertTokensNumType 2: the simulator knows 1 only");
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
    call.dims(counts, {range[1] - range[0]});
    call.contiguous(counts);
    call.workspace(1024);
    call.run([=] {
      store_integers(counts, expand_by_expert(in, ids, expertNum, expanded, places, range[0], range[1],
                                              rowIdxType == 1));
    });
  });
}
CANN_SIM_LAUNCH(aclnnMoeInitRoutingV3)

}  // extern "C"
