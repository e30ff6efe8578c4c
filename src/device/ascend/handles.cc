#include "device/ascend/handles.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include "base/check.h"

namespace longspan::ascend {
namespace {

constexpr uintptr_t kAlignment = 32;

int64_t size_of(AclDType dtype) {
  switch (dtype) {
    case kAclInt8:
      return 1;
    case kAclFloat16:
    case kAclBf16:
      return 2;
    case kAclInt64:
      return 8;
    default:
      return 4;
  }
}

template <class H>
H* made(const Card& card, H* handle, const char* call) {
  if (!handle)
    throw Error(ErrorCode::kInternal, fmt::format("ascend: {} failed: {}", call, card.recent_error()));
  return handle;
}

}  // namespace

AclDType acl_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kAclFloat;
    case DType::kF16:
      return kAclFloat16;
    case DType::kBF16:
      return kAclBf16;
    case DType::kI32:
      return kAclInt32;
  }
  return kAclFloat;
}

Tensor make_tensor(const Card& card, const void* data, AclDType dtype, const Dims& dims,
                   const Dims& strides) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t start = address / kAlignment * kAlignment;
  const auto ahead = static_cast<int64_t>(address - start);
  check(ahead % size_of(dtype) == 0, "a tensor's address must be aligned to its elements");
  const int64_t offset = ahead / size_of(dtype);
  int64_t last = offset;
  bool empty = false;
  for (size_t i = 0; i < dims.size(); ++i) {
    empty |= dims[i] == 0;
    last += (dims[i] - 1) * strides[i];
  }
  const int64_t storage = empty ? offset : last + 1;
  AclTensor* tensor = card.base().aclCreateTensor(dims.data(), dims.size(), dtype, strides.data(), offset,
                                                  kAclFormatNd, &storage, 1, reinterpret_cast<void*>(start));
  return {made(card, tensor, "aclCreateTensor"), DestroyTensor{&card.base()}};
}

Tensor make_tensor(const Card& card, const void* data, AclDType dtype, const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (auto i = static_cast<int64_t>(dims.size()) - 2; i >= 0; --i) strides[i] = strides[i + 1] * dims[i + 1];
  return make_tensor(card, data, dtype, dims, strides);
}

Tensor make_tensor(const Card& card, Matrix m) {
  return make_tensor(card, m.data, acl_dtype(m.dtype), {m.rows, m.cols}, {m.row_stride, 1});
}

TensorList make_list(const Card& card, Tensor tensor) {
  std::vector<Tensor> tensors;
  tensors.push_back(std::move(tensor));
  return make_list(card, std::move(tensors));
}

TensorList make_list(const Card& card, std::vector<Tensor> tensors) {
  std::vector<const AclTensor*> members;
  for (const Tensor& tensor : tensors) members.push_back(tensor.get());
  TensorList list(
      made(card, card.base().aclCreateTensorList(members.data(), members.size()), "aclCreateTensorList"),
      DestroyList{&card.base()});
  for (Tensor& tensor : tensors) static_cast<void>(tensor.release());  // the list's now
  return list;
}

IntArray make_integers(const Card& card, std::span<const int64_t> values) {
  return {made(card, card.base().aclCreateIntArray(values.data(), values.size()), "aclCreateIntArray"),
          DestroyIntArray{&card.base()}};
}

Scalar make_scalar(const Card& card, float value) {
  return {made(card, card.base().aclCreateScalar(&value, kAclFloat), "aclCreateScalar"),
          DestroyScalar{&card.base()}};
}

}  // namespace longspan::ascend
