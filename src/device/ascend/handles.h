#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/ascend/card.h"
#include "tensor/matrix.h"

namespace longspan::ascend {

/// Handles that destroy themselves. They may go as soon as phase 2 has returned.
struct DestroyTensor {
  const AclBaseApi* base;
  void operator()(AclTensor* t) const { base->aclDestroyTensor(t); }
};
struct DestroyList {
  const AclBaseApi* base;
  void operator()(AclTensorList* l) const { base->aclDestroyTensorList(l); }
};
struct DestroyIntArray {
  const AclBaseApi* base;
  void operator()(AclIntArray* a) const { base->aclDestroyIntArray(a); }
};
struct DestroyScalar {
  const AclBaseApi* base;
  void operator()(AclScalar* s) const { base->aclDestroyScalar(s); }
};
struct DestroyExecutor {
  const AclBaseApi* base;
  void operator()(AclExecutor* e) const { base->aclDestroyAclOpExecutor(e); }
};
using Tensor = std::unique_ptr<AclTensor, DestroyTensor>;
using TensorList = std::unique_ptr<AclTensorList, DestroyList>;
using IntArray = std::unique_ptr<AclIntArray, DestroyIntArray>;
using Scalar = std::unique_ptr<AclScalar, DestroyScalar>;
using Executor = std::unique_ptr<AclExecutor, DestroyExecutor>;  // that has not run

using Dims = std::vector<int64_t>;

AclDType acl_dtype(DType dtype);

/// A view of device memory. Strides in elements; the address need not be aligned: CANN's 32 bytes are kept by
/// an offset.
Tensor make_tensor(const Card& card, const void* data, AclDType dtype, const Dims& dims, const Dims& strides);
/// Without gaps.
Tensor make_tensor(const Card& card, const void* data, AclDType dtype, const Dims& dims);
/// A matrix as it lies.
Tensor make_tensor(const Card& card, Matrix m);
/// A list of one, or of several.
TensorList make_list(const Card& card, Tensor tensor);
TensorList make_list(const Card& card, std::vector<Tensor> tensors);
IntArray make_integers(const Card& card, std::span<const int64_t> values);
Scalar make_scalar(const Card& card, float value);

}  // namespace longspan::ascend
