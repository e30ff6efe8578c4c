#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "abi/aclnn.h"
#include "abi/hccl.h"
#include "abi/sim.h"

namespace cann_test {

constexpr int kInvalid = ACLNN_ERR_PARAM_INVALID;

/// The libraries of one release. Opened once per process, and like any program that finds CANN at run time.
class Cann {
 public:
  static Cann& of(const std::string& release) {
    static Cann v81("8.1"), v83("8.3"), v85("8.5"), v90("9.0");
    return release == "8.1" ? v81 : release == "8.3" ? v83 : release == "8.5" ? v85 : v90;
  }

  void* find(const char* name) const {
    for (void* library : libraries_)
      if (void* symbol = dlsym(library, name)) return symbol;
    return nullptr;
  }
  template <class F>
  F* get(const char* name) const {
    void* symbol = find(name);
    if (!symbol) throw std::runtime_error(std::string(name) + " is not in CANN " + release);
    return reinterpret_cast<F*>(symbol);
  }

  const std::string release;

 private:
  explicit Cann(const std::string& r) : release(r) {
    const std::filesystem::path folder = std::filesystem::path(CANN_SIM_FOLDER) / r / "lib64";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      void* library = dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!library) throw std::runtime_error(dlerror());
      libraries_.push_back(library);
    }
  }
  std::vector<void*> libraries_;
};

// A function of CANN by its own name and type, from `cann`.
#define CANN(function) cann.get<decltype(::function)>(#function)

inline uint16_t bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// How a tensor lies in its buffer.
struct Layout {
  std::vector<int64_t> strides = {};  // {}: contiguous
  int64_t offset = 0;
  std::vector<int64_t> storage = {};  // {}: the view's dims
  aclFormat format = ACL_FORMAT_ND;
};

/// A thread with device 0 of a release, a stream, and what it made; everything is given back at the end, and
/// nothing may be left over.
class Session {
 public:
  explicit Session(const std::string& release, int device = 0) : cann(Cann::of(release)) {
    setenv("ASCEND_OPP_PATH", "/opt/simulated/opp", 1);
    CANN(aclInit)(nullptr);
    EXPECT_EQ(CANN(aclrtSetDevice)(device), 0) << error();
    EXPECT_EQ(CANN(aclrtCreateStream)(&stream), 0) << error();
  }
  ~Session() {
    destroy_tensors();
    EXPECT_EQ(CANN(aclrtDestroyStream)(stream), 0) << error();
    for (void* data : allocations_) EXPECT_EQ(CANN(aclrtFree)(data), 0) << error();
  }

  std::string error() {
    const char* text = CANN(aclGetRecentErrMsg)();
    return text ? text : "";
  }
  int sync() { return CANN(aclrtSynchronizeStream)(stream); }

  void* allocate(size_t bytes) {
    void* data = nullptr;
    EXPECT_EQ(CANN(aclrtMalloc)(&data, bytes, ACL_MEM_MALLOC_HUGE_FIRST), 0) << error();
    allocations_.push_back(data);
    return data;
  }
  void release(void* data) {
    std::erase(allocations_, data);
    EXPECT_EQ(CANN(aclrtFree)(data), 0) << error();
  }

  template <class T>
  void* upload(const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    void* data = allocate(bytes);
    EXPECT_EQ(CANN(aclrtMemcpy)(data, bytes, values.data(), bytes, ACL_MEMCPY_HOST_TO_DEVICE), 0) << error();
    return data;
  }
  void* upload_bf16(const std::vector<float>& values) {
    std::vector<uint16_t> rounded;
    for (const float value : values) rounded.push_back(bf16(value));
    return upload(rounded);
  }
  template <class T>
  std::vector<T> download(const void* data, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(CANN(aclrtMemcpy)(values.data(), count * sizeof(T), data, count * sizeof(T),
                                ACL_MEMCPY_DEVICE_TO_HOST),
              0)
        << error();
    return values;
  }
  std::vector<float> download_bf16(const void* data, size_t count) {
    std::vector<float> values;
    for (const uint16_t bits : download<uint16_t>(data, count)) values.push_back(from_bf16(bits));
    return values;
  }

  aclTensor* tensor(void* data, std::vector<int64_t> dims, aclDataType dtype, const Layout& layout = {}) {
    const std::vector<int64_t>& storage = layout.storage.empty() ? dims : layout.storage;
    aclTensor* made = CANN(aclCreateTensor)(
        dims.data(), dims.size(), dtype, layout.strides.empty() ? nullptr : layout.strides.data(),
        layout.offset, layout.format, storage.data(), storage.size(), data);
    EXPECT_NE(made, nullptr) << error();
    if (made) tensors_.push_back(made);
    return made;
  }
  /// Takes the tensors over.
  aclTensorList* list(const std::vector<aclTensor*>& members) {
    for (aclTensor* member : members) std::erase(tensors_, member);
    aclTensorList* made = CANN(aclCreateTensorList)(members.data(), members.size());
    EXPECT_NE(made, nullptr) << error();
    lists_.push_back(made);
    return made;
  }
  aclTensorList* list(aclTensor* member) { return list(std::vector<aclTensor*>{member}); }
  aclIntArray* integers(const std::vector<int64_t>& values) {
    arrays_.push_back(CANN(aclCreateIntArray)(values.data(), values.size()));
    return arrays_.back();
  }
  aclScalar* scalar(float value) {
    scalars_.push_back(CANN(aclCreateScalar)(&value, ACL_FLOAT));
    return scalars_.back();
  }
  void destroy_tensors() {
    for (const aclTensor* t : tensors_) EXPECT_EQ(CANN(aclDestroyTensor)(t), 0) << error();
    for (const aclTensorList* l : lists_) EXPECT_EQ(CANN(aclDestroyTensorList)(l), 0) << error();
    for (const aclIntArray* a : arrays_) EXPECT_EQ(CANN(aclDestroyIntArray)(a), 0) << error();
    for (const aclScalar* s : scalars_) EXPECT_EQ(CANN(aclDestroyScalar)(s), 0) << error();
    tensors_.clear();
    lists_.clear();
    arrays_.clear();
    scalars_.clear();
  }

  /// Phase 2 of `op` after a phase 1 that gave `status`, with a workspace of the size that was asked for.
  int launch(const char* op, int status, uint64_t workspace, aclOpExecutor* executor) {
    if (status != 0) return status;
    void* scratch = workspace ? allocate(workspace) : nullptr;
    return cann.get<decltype(::aclnnMm)>(op)(scratch, workspace, executor, stream);
  }

  Cann& cann;
  aclrtStream stream = nullptr;

 private:
  std::vector<void*> allocations_;
  std::vector<const aclTensor*> tensors_;
  std::vector<const aclTensorList*> lists_;
  std::vector<aclIntArray*> arrays_;
  std::vector<aclScalar*> scalars_;
};

// Both phases of `op`, e.g. RUN(s, aclnnMm, a, b, c, int8_t{0}); the status of the first that fails.
#define RUN(session, op, ...)                                                                        \
  [&] {                                                                                              \
    uint64_t workspace = 0;                                                                          \
    aclOpExecutor* executor = nullptr;                                                               \
    const int status = (session).cann.get<decltype(::op##GetWorkspaceSize)>(#op "GetWorkspaceSize")( \
        __VA_ARGS__, &workspace, &executor);                                                         \
    return (session).launch(#op, status, workspace, executor);                                       \
  }()

}  // namespace cann_test
