#include <cstring>
#include <thread>

#include "abi/acl.h"
#include "core/garbage.h"
#include "core/runtime.h"

namespace {

using cann_sim::DeviceMemory;
using cann_sim::Disturbance;
using cann_sim::entry;
using cann_sim::fail;
using cann_sim::guarded;
using cann_sim::Runtime;

constexpr int kBad = ACL_ERROR_RT_PARAM_INVALID;

// Of the calling thread's device: what cards may do with each other's memory is not here.
void check_range(const void* data, uint64_t bytes, const std::string& label, int device) {
  DeviceMemory& memory = Runtime::get().memory();
  memory.check(data, bytes, label, kBad);
  if (memory.device_of(data) != device)
    fail(kBad, "{} lies on device {}, this thread has device {}", label, memory.device_of(data), device);
}

// One copy: both sides are checked against what `kind` says they are.
struct Copy {
  const char* call;
  void* dst;
  uint64_t dst_max;
  const void* src;
  uint64_t bytes;
  aclrtMemcpyKind kind;
  uint64_t garbage = 0;  // seed of what arrives instead
  uint64_t pinned = 0;   // the allocation on the host's side, where it is pinned

  bool to_device() const { return kind == ACL_MEMCPY_HOST_TO_DEVICE || kind == ACL_MEMCPY_DEVICE_TO_DEVICE; }
  bool from_device() const {
    return kind == ACL_MEMCPY_DEVICE_TO_HOST || kind == ACL_MEMCPY_DEVICE_TO_DEVICE;
  }
  /// The host's side; null: none, or more than one.
  const void* host() const { return to_device() == from_device() ? nullptr : to_device() ? src : dst; }
  std::string dst_label() const { return std::string(call) + ": dst"; }
  std::string src_label() const { return std::string(call) + ": src"; }

  void check() const {
    Runtime& runtime = Runtime::get();
    const int current = runtime.current_device(call, ACL_ERROR_RT_CONTEXT_NULL);
    if (!dst || !src) fail(kBad, "{}: dst or src is null", call);
    if (bytes > dst_max) fail(kBad, "{}: {} bytes do not fit destMax {}", call, bytes, dst_max);
    if (kind < ACL_MEMCPY_HOST_TO_HOST || kind > ACL_MEMCPY_DEVICE_TO_DEVICE)
      fail(kBad, "{}: kind {} is not one that the simulator knows", call, static_cast<int>(kind));
    DeviceMemory& memory = runtime.memory();
    const auto side = [&](const void* p, bool device, const std::string& label) {
      if (device)
        check_range(p, bytes, label, current);
      else if (memory.is_device_address(p))
        fail(kBad, "{} is device memory, kind {} says host", label, static_cast<int>(kind));
    };
    side(dst, to_device(), dst_label());
    side(src, from_device(), src_label());
  }

  void run(int code) const {
    if (pinned && Runtime::get().pinned_id(host(), bytes) != pinned)
      fail(code, "{}: pinned host memory at {} was freed before the copy ran", call, host());
    DeviceMemory& memory = Runtime::get().memory();
    const void* from = from_device() ? memory.read(src, bytes, src_label(), code) : src;
    void* to = to_device() ? static_cast<void*>(memory.write(dst, bytes, dst_label(), code)) : dst;
    std::memmove(to, from, bytes);
    cann_sim::spoil(to, bytes, garbage);
  }

  const char* way() const {
    return kind == ACL_MEMCPY_HOST_TO_DEVICE ? "h2d" : kind == ACL_MEMCPY_DEVICE_TO_HOST ? "d2h" : "d2d";
  }
  cann_sim::Cost cost(uint64_t rows = 1) const {
    const uint64_t all = bytes * rows;
    if (host()) return {.hbm_bytes = all, .host_bytes = all};
    return {.hbm_bytes = to_device() ? 2 * all : 0};
  }
  void count(uint64_t rows = 1) const {
    const std::string what = std::string("memcpy:") + way();
    Runtime::get().count(what);
    Runtime::get().count(what + ":bytes", bytes * rows);
  }
  /// A copy that the calling thread does itself.
  void count_here(uint64_t rows = 1) const {
    Runtime& runtime = Runtime::get();
    count(rows);
    runtime.conductor().time().on_host(way(), call, runtime.current_device(call, ACL_ERROR_RT_CONTEXT_NULL),
                                       cost(rows));
  }
};

// What a rule wants of a call that writes at once; a stall is over.
uint64_t garbage_of(const char* call) {
  const Disturbance what = Runtime::get().disturbed(call);
  std::this_thread::sleep_for(what.stall);
  return what.garbage;
}

// One memset, where it is carried out.
void set(const char* call, void* data, int32_t value, size_t bytes, uint64_t garbage, int code) {
  DeviceMemory& memory = Runtime::get().memory();
  const std::string label = std::string(call) + ": devPtr";
  const bool zeros = (value & 0xff) == 0;
  void* to = zeros ? memory.clear(data, bytes, label, code) : memory.write(data, bytes, label, code);
  if (!zeros) std::memset(to, value, bytes);
  cann_sim::spoil(to, bytes, garbage);
}

aclError allocate(const char* call, void** result, size_t size, aclrtMemMallocPolicy policy) {
  return entry(call, [&] {
    if (!result) fail(ACL_ERROR_INVALID_PARAM, "aclrtMalloc: null");
    const int of_policy = static_cast<int>(policy) & 0xff;
    if (of_policy > 7) fail(ACL_ERROR_INVALID_PARAM, "aclrtMalloc: policy {}", static_cast<int>(policy));
    Runtime& runtime = Runtime::get();
    *result =
        runtime.memory().allocate(runtime.current_device("aclrtMalloc", ACL_ERROR_RT_CONTEXT_NULL), size);
    runtime.count("malloc");
  });
}

}  // namespace

extern "C" {

aclError aclrtMalloc(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  return allocate(__func__, devPtr, size, policy);
}

aclError aclrtMallocAlign32(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  return allocate(__func__, devPtr, size, policy);
}

aclError aclrtFree(void* devPtr) {
  return entry(__func__, [&] {
    if (!devPtr) fail(ACL_ERROR_INVALID_PARAM, "aclrtFree: null");
    Runtime::get().memory().release(devPtr);
  });
}

aclError aclrtMallocHost(void** hostPtr, size_t size) {
  return entry(__func__, [&] {
    if (!hostPtr) fail(ACL_ERROR_INVALID_PARAM, "aclrtMallocHost: null");
    Runtime::get().current_device("aclrtMallocHost", ACL_ERROR_RT_CONTEXT_NULL);
    *hostPtr = Runtime::get().allocate_pinned(size);
    Runtime::get().count("malloc:host");
  });
}

aclError aclrtFreeHost(void* hostPtr) {
  return entry(__func__, [&] { Runtime::get().free_pinned(hostPtr); });
}

// Waits for no stream.
aclError aclrtMemcpy(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind) {
  return guarded([&] {
    const Copy copy{"aclrtMemcpy", dst, destMax, src, count, kind, garbage_of("aclrtMemcpy")};
    copy.check();
    copy.count_here();
    copy.run(kBad);
  });
}

aclError aclrtMemcpyAsync(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind,
                          aclrtStream stream) {
  return guarded([&] {
    Copy copy{"aclrtMemcpyAsync", dst, destMax, src, count, kind};
    copy.check();
    if (kind == ACL_MEMCPY_DEVICE_TO_DEVICE) {
      for (const void* p : {static_cast<const void*>(dst), src})
        if (reinterpret_cast<uintptr_t>(p) % 64 != 0)
          fail(kBad, "aclrtMemcpyAsync: device to device wants addresses aligned to 64 bytes, not {}", p);
    }
    Runtime& runtime = Runtime::get();
    cann_sim::Stream& on = runtime.stream_of(stream, "aclrtMemcpyAsync");
    const Disturbance what = runtime.disturbed("aclrtMemcpyAsync");
    copy.count();
    copy.garbage = what.garbage;
    copy.pinned = copy.host() ? runtime.pinned_id(copy.host(), count) : 0;
    runtime.conductor().enqueue(on, {.name = "aclrtMemcpyAsync",
                                     .run = [copy] { copy.run(ACL_ERROR_RT_AICORE_EXCEPTION); },
                                     .stall = what.stall,
                                     .timing = {.kind = copy.way(), .cost = copy.cost()}});
    // Pageable host memory: the call returns when the copy is done.
    if (copy.host() && !copy.pinned) {
      runtime.count("sync");
      runtime.conductor().synchronize(on, runtime.sync_limit());
    }
  });
}

aclError aclrtMemcpy2d(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width, size_t height,
                       aclrtMemcpyKind kind) {
  return guarded([&] {
    if (width > dpitch || width > spitch)
      fail(kBad, "aclrtMemcpy2d: width {} exceeds a pitch ({}, {})", width, dpitch, spitch);
    const uint64_t garbage = garbage_of("aclrtMemcpy2d");
    for (size_t row = 0; row < height; ++row) {
      const Copy copy{"aclrtMemcpy2d", static_cast<char*>(dst) + row * dpitch,
                      width,           static_cast<const char*>(src) + row * spitch,
                      width,           kind,
                      garbage};
      copy.check();
      if (row == 0) copy.count_here(height);
      copy.run(kBad);
    }
  });
}

aclError aclrtMemset(void* devPtr, size_t maxCount, int32_t value, size_t count) {
  return guarded([&] {
    const int device = Runtime::get().current_device("aclrtMemset", ACL_ERROR_RT_CONTEXT_NULL);
    if (count > maxCount) fail(kBad, "aclrtMemset: count {} exceeds maxCount {}", count, maxCount);
    check_range(devPtr, count, "aclrtMemset: devPtr", device);
    set("aclrtMemset", devPtr, value, count, garbage_of("aclrtMemset"), kBad);
    Runtime::get().conductor().time().on_host("memset", "aclrtMemset", device, {.hbm_bytes = count});
  });
}

aclError aclrtMemsetAsync(void* devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream) {
  return guarded([&] {
    Runtime& runtime = Runtime::get();
    cann_sim::Stream& on = runtime.stream_of(stream, "aclrtMemsetAsync");
    if (count > maxCount) fail(kBad, "aclrtMemsetAsync: count {} exceeds maxCount {}", count, maxCount);
    check_range(devPtr, count, "aclrtMemsetAsync: devPtr", on.device);
    const Disturbance what = runtime.disturbed("aclrtMemsetAsync");
    runtime.conductor().enqueue(on, {.name = "aclrtMemsetAsync",
                                     .run =
                                         [=] {
                                           set("aclrtMemsetAsync", devPtr, value, count, what.garbage,
                                               ACL_ERROR_RT_AICORE_EXCEPTION);
                                         },
                                     .stall = what.stall,
                                     .timing = {.kind = "memset", .cost = {.hbm_bytes = count}}});
  });
}

aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t* free, size_t* total) {
  return entry(__func__, [&] {
    if (!free || !total) fail(ACL_ERROR_INVALID_PARAM, "aclrtGetMemInfo: null");
    Runtime& runtime = Runtime::get();
    const int device = runtime.current_device("aclrtGetMemInfo", ACL_ERROR_RT_CONTEXT_NULL);
    *free = *total = 0;
    if (attr != ACL_HBM_MEM) return;
    *free = runtime.memory().free_bytes(device);
    *total = runtime.memory().total_bytes();
  });
}

}  // extern "C"
