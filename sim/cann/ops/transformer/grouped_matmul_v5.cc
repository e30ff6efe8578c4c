// aclnnGroupedMatmulV5.

#include "ops/transformer/grouped_matmul.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnGroupedMatmulV5GetWorkspaceSize(CANN_SIM_GROUPED_MATMUL_IN,
                                                 aclIntArray* tuningConfigOptional,
                                                 CANN_SIM_GROUPED_MATMUL_OUT) {
  return describe("aclnnGroupedMatmulV5", workspaceSize, executor, [&](Call& call) {
    call.absent("tuningConfigOptional", tuningConfigOptional);
    describe_grouped_matmul(
        call, {x, weight, bias, scale, offset, antiquantScale, antiquantOffset, perTokenScale, groupList,
               activationInput, activationQuantScale, activationQuantOffset, splitItem, groupType,
               groupListType, actType, out, activationFeatureOut, dynQuantScaleOut});
  });
}
CANN_SIM_LAUNCH(aclnnGroupedMatmulV5)

}  // extern "C"
