#pragma once

#include <vector>

#include "abi/aclnn.h"

// The opaque types of aclnn.

struct aclTensor {
  std::vector<int64_t> dims, strides;  // strides in elements
  aclDataType dtype = ACL_DT_UNDEFINED;
  aclFormat format = ACL_FORMAT_ND;
  int64_t offset = 0;         // elements
  int64_t storage_elems = 0;  // product of storageDims
  void* data = nullptr;
  bool in_list = false;  // owned by a tensor list
};

struct aclScalar {
  double value = 0;
  aclDataType dtype = ACL_DT_UNDEFINED;
};

struct aclIntArray {
  std::vector<int64_t> values;
};

struct aclFloatArray {
  std::vector<float> values;
};

struct aclBoolArray {
  std::vector<bool> values;
};

struct aclTensorList {
  std::vector<const aclTensor*> tensors;
};

namespace cann_sim {

constexpr const char* kTensor = "aclTensor";
constexpr const char* kScalar = "aclScalar";
constexpr const char* kIntArray = "aclIntArray";
constexpr const char* kFloatArray = "aclFloatArray";
constexpr const char* kBoolArray = "aclBoolArray";
constexpr const char* kTensorList = "aclTensorList";
constexpr const char* kExecutor = "aclOpExecutor (never run)";

/// Bytes of one element; 0 for a type that the simulator does not know.
int64_t size_of(aclDataType dtype);
const char* name_of(aclDataType dtype);

}  // namespace cann_sim
