#include "core/call.h"
#include "core/runtime.h"

using cann_sim::fail;
using cann_sim::Runtime;

extern "C" {

aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor) {
  return cann_sim::entry(__func__, [&] {
    if (!Runtime::get().alive(executor, cann_sim::kExecutor))
      fail(ACLNN_ERR_PARAM_INVALID, "aclSetAclOpExecutorRepeatable: not a live executor");
    executor->repeatable = true;
  });
}

aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor) {
  return cann_sim::entry(__func__, [&] {
    if (!executor) fail(ACLNN_ERR_PARAM_NULLPTR, "aclDestroyAclOpExecutor: null");
    if (!Runtime::get().died(executor, cann_sim::kExecutor))
      fail(ACLNN_ERR_PARAM_INVALID, "aclDestroyAclOpExecutor: not alive (phase 2 consumes an executor)");
    delete executor;
  });
}

}  // extern "C"
