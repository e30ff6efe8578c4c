#pragma once

#include <cstddef>
#include <cstdint>

/// Declarations of our own for the parts of CANN that this backend calls: values and argument lists as the
/// public headers have them (acl_rt.h, acl_meta.h; docs/ascend.md says how sure each is). Nothing of CANN is
/// needed to build.
namespace longspan::ascend {

using AclError = int;
using AclStatus = int32_t;  // of the aclnn functions
using AclStream = void*;
using AclEvent = void*;

constexpr AclError kAclRepeatInit = 100002;
// No memory: of ACL itself, and of the runtime below it, whose codes ACL passes on.
constexpr AclError kAclBadAlloc = 200000, kAclRuntimeBadAlloc = 207001;
constexpr AclStatus kAclParamInvalid = 161002;
constexpr AclStatus kAclTilingError = 561002;
constexpr AclStatus kAclKernelNotFound = 561003, kAclKernelNotLoaded = 561112;
constexpr AclStatus kAclOppPathMissing = 561107;

enum AclDType : int {
  kAclFloat = 0,
  kAclFloat16 = 1,
  kAclInt8 = 2,
  kAclInt32 = 3,
  kAclInt64 = 9,
  kAclBf16 = 27
};
enum AclFormat : int { kAclFormatNd = 2 };
enum AclMallocPolicy : int { kAclHugeFirst = 0 };
enum AclCopyKind : int { kAclHostToDevice = 1, kAclDeviceToHost = 2 };
constexpr uint32_t kAclEventSync = 1;  // an event that orders streams, without a time
enum AclMemAttr : int { kAclHbm = 1 };

enum AclPackage : int { kAclPackageCann = 0 };

/// Texts that end with 0; what can't be found is "0" or empty.
struct AclCannVersion {
  char version[128];
  char major[64], minor[64], release[64], patch[64];
  char reserved[128];
};

struct AclTensor;
struct AclScalar;
struct AclIntArray;
struct AclTensorList;
struct AclExecutor;

/// Functions of the runtime library, by their names in it.
struct AclRuntimeApi {
  AclError (*aclInit)(const char* config) = nullptr;
  AclError (*aclrtSetDevice)(int32_t device) = nullptr;
  AclError (*aclrtGetDeviceCount)(uint32_t* count) = nullptr;
  AclError (*aclrtCreateStream)(AclStream* stream) = nullptr;
  AclError (*aclrtDestroyStream)(AclStream stream) = nullptr;
  AclError (*aclrtSynchronizeStream)(AclStream stream) = nullptr;
  AclError (*aclrtCreateEventExWithFlag)(AclEvent* event, uint32_t flag) = nullptr;
  AclError (*aclrtDestroyEvent)(AclEvent event) = nullptr;
  AclError (*aclrtRecordEvent)(AclEvent event, AclStream stream) = nullptr;
  AclError (*aclrtStreamWaitEvent)(AclStream stream, AclEvent event) = nullptr;
  AclError (*aclrtMalloc)(void** data, size_t bytes, AclMallocPolicy policy) = nullptr;
  AclError (*aclrtFree)(void* data) = nullptr;
  AclError (*aclrtMallocHost)(void** data, size_t bytes) = nullptr;
  AclError (*aclrtFreeHost)(void* data) = nullptr;
  AclError (*aclrtMemcpy)(void* dst, size_t dst_max, const void* src, size_t bytes,
                          AclCopyKind kind) = nullptr;
  AclError (*aclrtMemcpyAsync)(void* dst, size_t dst_max, const void* src, size_t bytes, AclCopyKind kind,
                               AclStream stream) = nullptr;
  AclError (*aclrtMemset)(void* data, size_t max, int32_t value, size_t bytes) = nullptr;
  AclError (*aclrtMemsetAsync)(void* data, size_t max, int32_t value, size_t bytes,
                               AclStream stream) = nullptr;
  AclError (*aclrtGetMemInfo)(AclMemAttr attr, size_t* free, size_t* total) = nullptr;
  const char* (*aclrtGetSocName)() = nullptr;
  const char* (*aclGetRecentErrMsg)() = nullptr;
  AclError (*aclsysGetVersionStr)(char* package, char* version) = nullptr;  // newer releases only
  AclError (*aclsysGetCANNVersion)(AclPackage package, AclCannVersion* version) = nullptr;  // older ones
};

/// Functions of libnnopbase.
struct AclBaseApi {
  AclTensor* (*aclCreateTensor)(const int64_t* dims, uint64_t rank, AclDType dtype, const int64_t* strides,
                                int64_t offset, AclFormat format, const int64_t* storage_dims,
                                uint64_t storage_rank, void* data) = nullptr;
  AclScalar* (*aclCreateScalar)(void* value, AclDType dtype) = nullptr;
  AclIntArray* (*aclCreateIntArray)(const int64_t* values, uint64_t size) = nullptr;
  AclTensorList* (*aclCreateTensorList)(const AclTensor* const* tensors, uint64_t size) = nullptr;
  AclStatus (*aclDestroyTensor)(const AclTensor* tensor) = nullptr;
  AclStatus (*aclDestroyScalar)(const AclScalar* scalar) = nullptr;
  AclStatus (*aclDestroyIntArray)(const AclIntArray* array) = nullptr;
  AclStatus (*aclDestroyTensorList)(const AclTensorList* list) = nullptr;  // and the tensors in it
  AclStatus (*aclDestroyAclOpExecutor)(AclExecutor* executor) = nullptr;
};

}  // namespace longspan::ascend
