#include "device/ascend/card.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <bit>

namespace longspan::ascend {
namespace {

constexpr int64_t kSlack = 32;  // beside what is asked for, kernels may read as much
constexpr size_t kLeastPinned = 512;

bool out_of_memory(AclError code) {
  return code == kAclBadAlloc || code == kAclRuntimeBadAlloc;
}

}  // namespace

Card::Card(const std::string& home, int32_t device) : cann_(home), device_(device) {
  // Another part of the process may have done it, and nobody ends it: aclFinalize would end it for all.
  if (const AclError code = acl().aclInit(nullptr); code != 0 && code != kAclRepeatInit)
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend ascend: aclInit failed with {}: {}; is the driver installed?", code,
                            recent_error()));
  uint32_t count = 0;
  const AclError code = acl().aclrtGetDeviceCount(&count);
  const std::string reason = code == 0 ? "" : fmt::format(" ({}: {})", code, recent_error());
  if (code != 0 || device < 0 || static_cast<uint32_t>(device) >= count)
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend ascend: device {} is not there: {} devices are seen{}; is the driver "
                            "installed, and ASCEND_RT_VISIBLE_DEVICES right?{}",
                            device, count, reason,
                            device > 0 ? " Over --comm hccl each rank on a host takes a device" : ""));
  count_ = static_cast<int32_t>(count);
  enter();
}

Card::~Card() {
  if (acl().aclrtSetDevice(device_) == 0) drop_pinned();
}

void Card::enter() const {
  check(acl().aclrtSetDevice(device_), "aclrtSetDevice");
}

void* Card::allocate(int64_t bytes) {
  enter();
  void* block = nullptr;
  check(acl().aclrtMalloc(&block, static_cast<size_t>(bytes + kSlack), kAclHugeFirst), "aclrtMalloc");
  return block;
}

void Card::release(void* block, int64_t) {
  if (acl().aclrtSetDevice(device_) == 0) acl().aclrtFree(block);
}

Card::Memory Card::memory() const {
  enter();
  size_t free = 0, total = 0;
  check(acl().aclrtGetMemInfo(kAclHbm, &free, &total), "aclrtGetMemInfo");
  return {.total = static_cast<int64_t>(total), .free = static_cast<int64_t>(free)};
}

std::shared_ptr<char> Card::pinned(int64_t bytes) {
  const size_t size = std::bit_ceil(std::max(static_cast<size_t>(bytes), kLeastPinned));
  void* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& blocks = free_pinned_[size];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
    }
  }
  if (!block) {
    enter();
    AclError code = acl().aclrtMallocHost(&block, size);
    if (code != 0) {  // whatever the code: blocks of other classes may be what is missing
      drop_pinned();
      code = acl().aclrtMallocHost(&block, size);
    }
    check(code, "aclrtMallocHost");
  }
  return {static_cast<char*>(block), [this, size](char* data) {
            const std::lock_guard lock(mutex_);
            free_pinned_[size].push_back(data);
          }};
}

void Card::drop_pinned() {
  const std::lock_guard lock(mutex_);
  for (const auto& [size, blocks] : free_pinned_)
    for (void* block : blocks) acl().aclrtFreeHost(block);
  free_pinned_.clear();
}

std::string Card::recent_error() const {
  const char* text = acl().aclGetRecentErrMsg();
  return text ? text : "no further text";
}

void Card::check(int code, const char* call) const {
  if (code == 0) [[likely]]
    return;
  const std::string text = recent_error();
  if (code == kAclOppPathMissing)
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend ascend: {} needs ASCEND_OPP_PATH (source CANN's set_env.sh)", call));
  throw Error(out_of_memory(code) ? ErrorCode::kCapacity : ErrorCode::kInternal,
              fmt::format("ascend: {} failed with {}: {}", call, code, text));
}

void DeviceBuffer::fill(const void* host, int64_t bytes, int64_t at) {
  if (bytes == 0) return;
  card_.enter();
  card_.check(card_.acl().aclrtMemcpy(static_cast<char*>(data_) + at, static_cast<size_t>(bytes_ - at), host,
                                      static_cast<size_t>(bytes), kAclHostToDevice),
              "aclrtMemcpy");
}

}  // namespace longspan::ascend
