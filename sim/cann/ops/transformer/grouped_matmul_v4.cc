// aclnnGroupedMatmulV4.

#include "ops/transformer/grouped_matmul.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnGroupedMatmulV4GetWorkspaceSize(CANN_SIM_GROUPED_MATMUL_IN, CANN_SIM_GROUPED_MATMUL_OUT) {
  return describe("aclnnGroupedMatmulV4", workspaceSize, executor, [&](Call& call) {
    describe_grouped_matmul(
        call, {x, weight, bias, scale, offset, antiquantScale, antiquantOffset, perTokenScale, groupList,
               activationInput, activationQuantScale, activationQuantOffset, splitItem, groupType,
               groupListType, actType, out, activationFeatureOut, dynQuantScaleOut});
  });
}
CANN_SIM_LAUNCH(aclnnGroupedMatmulV4)

}  // extern "C"
