// Creation and destruction of what operators take.

#include "core/handles.h"

#include <numeric>

#include "core/fault.h"
#include "core/runtime.h"

namespace {

using cann_sim::fail;
using cann_sim::Runtime;

template <class T>
T* born(T* object, const char* kind) {
  Runtime::get().born(object, kind);
  return object;
}

template <class T>
aclnnStatus destroy(const char* call, const T* object, const char* kind) {
  return cann_sim::entry(call, [&] {
    if (!object) fail(ACLNN_ERR_PARAM_NULLPTR, "destroy {}: null", kind);
    if (!Runtime::get().died(object, kind))
      fail(ACLNN_ERR_PARAM_INVALID, "destroy {}: not alive (destroyed before?)", kind);
    delete object;
  });
}

// Null where there are no values.
template <class Array, class T>
Array* make_array(const char* call, const T* values, uint64_t size, const char* kind) {
  Array* made = nullptr;
  cann_sim::entry(call, [&] {
    if (!values && size > 0) fail(ACLNN_ERR_PARAM_NULLPTR, "{}: value is null", call);
    auto array = std::make_unique<Array>();
    array->values.assign(values, values + size);
    made = born(array.release(), kind);
  });
  return made;
}

void check_tensor(const aclTensor& t, const int64_t* storage, uint64_t storage_rank) {
  if (cann_sim::size_of(t.dtype) == 0)
    fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensor: dtype {} is not known", static_cast<int>(t.dtype));
  for (size_t i = 0; i < t.dims.size(); ++i)
    if (t.dims[i] < 0 || t.strides[i] < 0)
      fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensor: dim {} is {} with stride {}", i, t.dims[i],
           t.strides[i]);
  for (uint64_t i = 0; i < storage_rank; ++i)
    if (storage[i] < 0) fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensor: storage dim {} is {}", i, storage[i]);
  if (t.offset < 0) fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensor: offset {}", t.offset);
  int64_t last = t.offset;
  for (size_t i = 0; i < t.dims.size(); ++i) {
    if (t.dims[i] == 0) return;
    last += (t.dims[i] - 1) * t.strides[i];
  }
  if (last >= t.storage_elems)
    fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensor: the view reaches element {}, the storage has {}", last,
         t.storage_elems);
}

}  // namespace

extern "C" {

aclnnStatus aclnnInit(const char*) {
  return cann_sim::entry(__func__, [] {});
}

aclnnStatus aclnnFinalize(void) {
  return cann_sim::entry(__func__, [] {});
}

aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType,
                           const int64_t* stride, int64_t offset, aclFormat format,
                           const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  aclTensor* made = nullptr;
  cann_sim::entry(__func__, [&] {
    if ((!viewDims && viewDimsNum > 0) || (!storageDims && storageDimsNum > 0))
      fail(ACLNN_ERR_PARAM_NULLPTR, "aclCreateTensor: dims are missing");
    auto tensor = std::make_unique<aclTensor>();
    tensor->dims.assign(viewDims, viewDims + viewDimsNum);
    tensor->strides.assign(viewDimsNum, 1);
    for (int64_t i = static_cast<int64_t>(viewDimsNum) - 2; i >= 0; --i)
      tensor->strides[i] = tensor->strides[i + 1] * tensor->dims[i + 1];
    if (stride) tensor->strides.assign(stride, stride + viewDimsNum);
    tensor->dtype = dataType;
    tensor->format = format;
    tensor->offset = offset;
    tensor->storage_elems =
        std::accumulate(storageDims, storageDims + storageDimsNum, int64_t{1}, std::multiplies<>());
    tensor->data = tensorData;
    check_tensor(*tensor, storageDims, storageDimsNum);
    made = born(tensor.release(), cann_sim::kTensor);
  });
  return made;
}

aclScalar* aclCreateScalar(void* value, aclDataType dataType) {
  aclScalar* made = nullptr;
  cann_sim::entry(__func__, [&] {
    if (!value) fail(ACLNN_ERR_PARAM_NULLPTR, "aclCreateScalar: value is null");
    double number = 0;
    switch (dataType) {
      case ACL_FLOAT:
        number = *static_cast<float*>(value);
        break;
      case ACL_DOUBLE:
        number = *static_cast<double*>(value);
        break;
      case ACL_INT32:
        number = *static_cast<int32_t*>(value);
        break;
      case ACL_INT64:
        number = static_cast<double>(*static_cast<int64_t*>(value));
        break;
      default:
        fail(ACLNN_ERR_PARAM_INVALID, "aclCreateScalar: dtype {} is not known to the simulator",
             static_cast<int>(dataType));
    }
    made = born(new aclScalar{number, dataType}, cann_sim::kScalar);
  });
  return made;
}

aclIntArray* aclCreateIntArray(const int64_t* value, uint64_t size) {
  return make_array<aclIntArray>(__func__, value, size, cann_sim::kIntArray);
}

aclFloatArray* aclCreateFloatArray(const float* value, uint64_t size) {
  return make_array<aclFloatArray>(__func__, value, size, cann_sim::kFloatArray);
}

aclBoolArray* aclCreateBoolArray(const bool* value, uint64_t size) {
  return make_array<aclBoolArray>(__func__, value, size, cann_sim::kBoolArray);
}

aclTensorList* aclCreateTensorList(const aclTensor* const* value, uint64_t size) {
  aclTensorList* made = nullptr;
  cann_sim::entry(__func__, [&] {
    if (!value && size > 0) fail(ACLNN_ERR_PARAM_NULLPTR, "aclCreateTensorList: null");
    for (uint64_t i = 0; i < size; ++i) {
      if (!Runtime::get().alive(value[i], cann_sim::kTensor))
        fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensorList: entry {} is not a live aclTensor", i);
      if (value[i]->in_list)
        fail(ACLNN_ERR_PARAM_INVALID, "aclCreateTensorList: entry {} belongs to another list", i);
    }
    for (uint64_t i = 0; i < size; ++i) const_cast<aclTensor*>(value[i])->in_list = true;
    made = born(new aclTensorList{{value, value + size}}, cann_sim::kTensorList);
  });
  return made;
}

aclnnStatus aclDestroyTensor(const aclTensor* tensor) {
  return cann_sim::entry(__func__, [&] {
    if (!tensor) fail(ACLNN_ERR_PARAM_NULLPTR, "aclDestroyTensor: null");
    if (!Runtime::get().alive(tensor, cann_sim::kTensor))
      fail(ACLNN_ERR_PARAM_INVALID, "aclDestroyTensor: not alive (destroyed before, or with its list?)");
    if (tensor->in_list)
      fail(ACLNN_ERR_PARAM_INVALID, "aclDestroyTensor: the tensor belongs to a list, which destroys it");
    Runtime::get().died(tensor, cann_sim::kTensor);
    delete tensor;
  });
}

aclnnStatus aclDestroyScalar(const aclScalar* scalar) {
  return destroy(__func__, scalar, cann_sim::kScalar);
}

aclnnStatus aclDestroyIntArray(const aclIntArray* array) {
  return destroy(__func__, array, cann_sim::kIntArray);
}

aclnnStatus aclDestroyFloatArray(const aclFloatArray* array) {
  return destroy(__func__, array, cann_sim::kFloatArray);
}

aclnnStatus aclDestroyBoolArray(const aclBoolArray* array) {
  return destroy(__func__, array, cann_sim::kBoolArray);
}

aclnnStatus aclDestroyTensorList(const aclTensorList* list) {
  return cann_sim::entry(__func__, [&] {
    if (!list) fail(ACLNN_ERR_PARAM_NULLPTR, "aclDestroyTensorList: null");
    if (!Runtime::get().died(list, cann_sim::kTensorList))
      fail(ACLNN_ERR_PARAM_INVALID, "aclDestroyTensorList: not alive (destroyed before?)");
    for (const aclTensor* tensor : list->tensors)
      if (Runtime::get().died(tensor, cann_sim::kTensor)) delete tensor;
    delete list;
  });
}

aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr) {
  return cann_sim::entry(__func__, [&] {
    if (!Runtime::get().alive(tensor, cann_sim::kTensor))
      fail(ACLNN_ERR_PARAM_INVALID, "aclSetRawTensorAddr: not a live aclTensor");
    tensor->data = addr;
  });
}

aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr) {
  return cann_sim::entry(__func__, [&] {
    if (!addr) fail(ACLNN_ERR_PARAM_NULLPTR, "aclGetRawTensorAddr: null");
    if (!Runtime::get().alive(tensor, cann_sim::kTensor))
      fail(ACLNN_ERR_PARAM_INVALID, "aclGetRawTensorAddr: not a live aclTensor");
    *addr = tensor->data;
  });
}

}  // extern "C"
