// Compiled by scripts/check_cann_headers beside the ACL and HCCL headers that torch-npu carries: our own
// declarations, the backend's and the simulator's, must have the same argument lists and values.

#include <acl/acl.h>
#include <acl/error_codes/rt_error_codes.h>
#include <hccl/hccl.h>

#include <type_traits>

#include "device/ascend/acl_api.h"
#include "device/ascend/hccl_api.h"
#include "sim_acl.h"   // sim/cann/abi/acl.h with its declarations in namespace sim
#include "sim_hccl.h"  // hccl.h likewise

namespace {

using longspan::ascend::AclRuntimeApi;
using longspan::ascend::HcclApi;

// One type may stand for the other in a C call: pointers for pointers, numbers and enums of one size.
template <class A, class B>
constexpr bool kSame =
    std::is_void_v<A> ? std::is_void_v<B>
    : std::is_pointer_v<A> || std::is_pointer_v<B>
        ? std::is_pointer_v<A>&& std::is_pointer_v<B>
        : sizeof(A) == sizeof(B) && std::is_floating_point_v<A> == std::is_floating_point_v<B>;

template <class R, class... A, class S, class... B>
constexpr bool same(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) == sizeof...(B))
    return kSame<R, S> && (kSame<A, B> && ...);
  else
    return false;
}

#define BACKEND(f) static_assert(same(decltype(AclRuntimeApi::f){}, static_cast<decltype(&::f)>(nullptr)), #f)
BACKEND(aclInit);
BACKEND(aclrtSetDevice);
BACKEND(aclrtGetDeviceCount);
BACKEND(aclrtCreateStream);
BACKEND(aclrtDestroyStream);
BACKEND(aclrtSynchronizeStream);
BACKEND(aclrtCreateEventExWithFlag);
BACKEND(aclrtDestroyEvent);
BACKEND(aclrtRecordEvent);
BACKEND(aclrtStreamWaitEvent);
BACKEND(aclrtMalloc);
BACKEND(aclrtFree);
BACKEND(aclrtMallocHost);
BACKEND(aclrtFreeHost);
BACKEND(aclrtMemcpy);
BACKEND(aclrtMemcpyAsync);
BACKEND(aclrtMemset);
BACKEND(aclrtMemsetAsync);
BACKEND(aclrtGetMemInfo);
BACKEND(aclrtGetSocName);
BACKEND(aclGetRecentErrMsg);
BACKEND(aclsysGetVersionStr);
BACKEND(aclsysGetCANNVersion);

#define COLLECTIVES(f) static_assert(same(decltype(HcclApi::f){}, static_cast<decltype(&::f)>(nullptr)), #f)
COLLECTIVES(HcclGetRootInfo);
COLLECTIVES(HcclCommInitRootInfo);
COLLECTIVES(HcclCommDestroy);
COLLECTIVES(HcclGetErrorString);
COLLECTIVES(HcclBarrier);
COLLECTIVES(HcclAllGather);
COLLECTIVES(HcclAllGatherV);
COLLECTIVES(HcclAllReduce);
COLLECTIVES(HcclReduceScatter);
COLLECTIVES(HcclBroadcast);
COLLECTIVES(HcclAlltoAllV);

#define SIMULATOR(f) \
  static_assert(same(static_cast<decltype(&sim::f)>(nullptr), static_cast<decltype(&::f)>(nullptr)), #f)
SIMULATOR(aclInit);
SIMULATOR(aclFinalize);
SIMULATOR(aclrtSetDevice);
SIMULATOR(aclrtResetDevice);
SIMULATOR(aclrtGetDevice);
SIMULATOR(aclrtGetDeviceCount);
SIMULATOR(aclrtCreateStream);
SIMULATOR(aclrtCreateStreamWithConfig);
SIMULATOR(aclrtDestroyStream);
SIMULATOR(aclrtSynchronizeStream);
SIMULATOR(aclrtSynchronizeStreamWithTimeout);
SIMULATOR(aclrtStreamQuery);
SIMULATOR(aclrtSynchronizeDevice);
SIMULATOR(aclrtMalloc);
SIMULATOR(aclrtMallocAlign32);
SIMULATOR(aclrtFree);
SIMULATOR(aclrtMallocHost);
SIMULATOR(aclrtFreeHost);
SIMULATOR(aclrtMemcpy);
SIMULATOR(aclrtMemcpyAsync);
SIMULATOR(aclrtMemcpy2d);
SIMULATOR(aclrtMemset);
SIMULATOR(aclrtMemsetAsync);
SIMULATOR(aclrtGetMemInfo);
SIMULATOR(aclrtCreateEvent);
SIMULATOR(aclrtCreateEventWithFlag);
SIMULATOR(aclrtCreateEventExWithFlag);
SIMULATOR(aclrtDestroyEvent);
SIMULATOR(aclrtRecordEvent);
SIMULATOR(aclrtResetEvent);
SIMULATOR(aclrtStreamWaitEvent);
SIMULATOR(aclrtSynchronizeEvent);
SIMULATOR(aclrtQueryEventStatus);
SIMULATOR(aclrtEventElapsedTime);
SIMULATOR(aclrtGetRunMode);
SIMULATOR(aclrtGetSocName);
SIMULATOR(aclGetRecentErrMsg);
SIMULATOR(aclsysGetVersionStr);
SIMULATOR(aclsysGetCANNVersion);
SIMULATOR(HcclGetRootInfo);
SIMULATOR(HcclCommInitRootInfo);
SIMULATOR(HcclCommDestroy);
SIMULATOR(HcclGetErrorString);
SIMULATOR(HcclBarrier);
SIMULATOR(HcclAllGather);
SIMULATOR(HcclAllGatherV);
SIMULATOR(HcclAllReduce);
SIMULATOR(HcclReduceScatter);
SIMULATOR(HcclBroadcast);
SIMULATOR(HcclAlltoAllV);
SIMULATOR(HcclGetRankSize);
SIMULATOR(HcclGetRankId);
SIMULATOR(HcclGetCommAsyncError);

#define VALUE(ours, theirs) static_assert(static_cast<int>(ours) == static_cast<int>(theirs), #ours)
using namespace longspan::ascend;
VALUE(kAclRepeatInit, ACL_ERROR_REPEAT_INITIALIZE);
VALUE(kAclBadAlloc, ACL_ERROR_BAD_ALLOC);
VALUE(kAclRuntimeBadAlloc, ACL_ERROR_RT_MEMORY_ALLOCATION);
VALUE(kAclFloat, ::ACL_FLOAT);
VALUE(kAclFloat16, ::ACL_FLOAT16);
VALUE(kAclInt8, ::ACL_INT8);
VALUE(kAclInt32, ::ACL_INT32);
VALUE(kAclInt64, ::ACL_INT64);
VALUE(kAclBf16, ::ACL_BF16);
VALUE(kAclFormatNd, ::ACL_FORMAT_ND);
VALUE(kAclHugeFirst, ::ACL_MEM_MALLOC_HUGE_FIRST);
VALUE(kAclHostToDevice, ::ACL_MEMCPY_HOST_TO_DEVICE);
VALUE(kAclDeviceToHost, ::ACL_MEMCPY_DEVICE_TO_HOST);
VALUE(kAclHbm, ::ACL_HBM_MEM);
VALUE(kAclEventSync, ACL_EVENT_SYNC);
VALUE(sim::ACL_BF16, ::ACL_BF16);
VALUE(sim::ACL_BOOL, ::ACL_BOOL);
VALUE(sim::ACL_UINT8, ::ACL_UINT8);
VALUE(sim::ACL_INT64, ::ACL_INT64);
VALUE(sim::ACL_FORMAT_FRACTAL_NZ, ::ACL_FORMAT_FRACTAL_NZ);
VALUE(sim::ACL_STREAM_STATUS_NOT_READY, ::ACL_STREAM_STATUS_NOT_READY);
VALUE(sim::ACL_EVENT_RECORDED_STATUS_COMPLETE, ::ACL_EVENT_RECORDED_STATUS_COMPLETE);
VALUE(sim::SIM_EVENT_SYNC, ACL_EVENT_SYNC);
VALUE(sim::SIM_EVENT_TIME_LINE, ACL_EVENT_TIME_LINE);
VALUE(sim::SIM_PARAM_INVALID, ACL_ERROR_RT_PARAM_INVALID);
VALUE(sim::SIM_INVALID_DEVICEID, ACL_ERROR_RT_INVALID_DEVICEID);
VALUE(sim::SIM_CONTEXT_NULL, ACL_ERROR_RT_CONTEXT_NULL);
VALUE(sim::SIM_STREAM_CONTEXT, ACL_ERROR_RT_STREAM_CONTEXT);
VALUE(sim::SIM_MEMORY_ALLOCATION, ACL_ERROR_RT_MEMORY_ALLOCATION);
VALUE(sim::SIM_AICORE_EXCEPTION, ACL_ERROR_RT_AICORE_EXCEPTION);
VALUE(sim::SIM_STREAM_SYNC_TIMEOUT, ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
VALUE(kHcclInt8, ::HCCL_DATA_TYPE_INT8);
VALUE(kHcclFloat, ::HCCL_DATA_TYPE_FP32);
VALUE(kHcclSum, ::HCCL_REDUCE_SUM);
VALUE(sizeof(HcclRoot), sizeof(::HcclRootInfo));
VALUE(sim::HCCL_DATA_TYPE_INT8, ::HCCL_DATA_TYPE_INT8);
VALUE(sim::HCCL_DATA_TYPE_INT32, ::HCCL_DATA_TYPE_INT32);
VALUE(sim::HCCL_DATA_TYPE_FP16, ::HCCL_DATA_TYPE_FP16);
VALUE(sim::HCCL_DATA_TYPE_FP32, ::HCCL_DATA_TYPE_FP32);
VALUE(sim::HCCL_DATA_TYPE_INT64, ::HCCL_DATA_TYPE_INT64);
VALUE(sim::HCCL_DATA_TYPE_UINT8, ::HCCL_DATA_TYPE_UINT8);
VALUE(sim::HCCL_DATA_TYPE_BFP16, ::HCCL_DATA_TYPE_BFP16);
VALUE(sim::HCCL_REDUCE_MIN, ::HCCL_REDUCE_MIN);
VALUE(sim::HCCL_E_TIMEOUT, ::HCCL_E_TIMEOUT);
VALUE(sim::HCCL_E_RUNTIME, ::HCCL_E_RUNTIME);
VALUE(kAclPackageCann, ::ACL_PKG_NAME_CANN);
VALUE(sizeof(AclCannVersion), sizeof(::aclCANNPackageVersion));
VALUE(sizeof(sim::aclCANNPackageVersion), sizeof(::aclCANNPackageVersion));
VALUE(sizeof(sim::HcclRootInfo), sizeof(::HcclRootInfo));

}  // namespace
