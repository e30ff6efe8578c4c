// aclnnMoeInitRoutingV2.

#include <numeric>

#include "ops/transformer/moe_routing.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnMoeInitRoutingV2GetWorkspaceSize(
    const aclTensor* x, const aclTensor* expertIdx, int64_t activeNum, int64_t, int64_t expertNum,
    int64_t dropPadMode, int64_t expertTokensCountOrCumsumFlag, bool expertTokensBeforeCapacityFlag,
    const aclTensor* expandedXOut, const aclTensor* expandedRowIdxOut,
    const aclTensor* expertTokensCountOrCumsumOut, const aclTensor* expertTokensBeforeCapacityOut,
    CANN_SIM_WS) {
  return describe("aclnnMoeInitRoutingV2", workspaceSize, executor, [&](Call& call) {
    const int64_t flag = expertTokensCountOrCumsumFlag;
    const View in = call.in("x", x, kFloats), ids = call.in("expertIdx", expertIdx, {ACL_INT32});
    const View expanded = call.out("expandedXOut", expandedXOut, kFloats);
    const View places = call.out("expandedRowIdxOut", expandedRowIdxOut, {ACL_INT32});
    check_expansion(call, in, ids, expanded, places);
    call.require(dropPadMode == 0, "dropPadMode {}: the simulator knows 0 only", dropPadMode);
    call.require(activeNum == 0 || activeNum == ids.count(), "activeNum {} must be 0 or rows * k = {}",
                 activeNum, ids.count());
    call.require(flag >= 1 && flag <= 2, "expertTokensCountOrCumsumFlag {}: the simulator knows 1 and 2",
                 flag);
    call.require(!expertTokensBeforeCapacityFlag, "expertTokensBeforeCapacityFlag needs dropPadMode 1");
    call.absent("expertTokensBeforeCapacityOut", expertTokensBeforeCapacityOut);
    const View counts = call.out("expertTokensCountOrCumsumOut", expertTokensCountOrCumsumOut, {ACL_INT32});
    call.dims(counts, {expertNum});
    call.contiguous(counts);
    call.workspace(1024);
    call.run([=] {
      std::vector<int64_t> tokens = expand_by_expert(in, ids, expertNum, expanded, places, 0, expertNum);
      if (flag == 1) std::partial_sum(tokens.begin(), tokens.end(), tokens.begin());
      store_integers(counts, tokens);
    });
  });
}
CANN_SIM_LAUNCH(aclnnMoeInitRoutingV2)

}  // extern "C"
