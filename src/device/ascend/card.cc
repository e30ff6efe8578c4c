#include "device/ascend/card.h"

#include <fmt/format.h>
#include <longspan/error.h>

namespace longspan::ascend {
namespace {

// Beside what is asked for, kernels may read 32 bytes.
constexpr int64_t kUnit = 512, kSlack = 32;

int64_t block_size(int64_t bytes) {
  return (bytes + kSlack + kUnit - 1) / kUnit * kUnit;
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
  if (code != 0 || device < 0 || static_cast<uint32_t>(device) >= count)
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend ascend: device {} is not there: {} devices are seen (code {}); is the "
                            "driver installed, and ASCEND_RT_VISIBLE_DEVICES right?",
                            device, count, code));
  enter();
}

Card::~Card() {
  if (acl().aclrtSetDevice(device_) != 0) return;
  drop_cached();
  for (const auto& [bytes, blocks] : free_pinned_)
    for (void* block : blocks) acl().aclrtFreeHost(block);
}

void Card::enter() const {
  check(acl().aclrtSetDevice(device_), "aclrtSetDevice");
}

void* Card::allocate(int64_t bytes) {
  const int64_t size = block_size(bytes);
  {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& blocks = free_blocks_[size];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      return block;
    }
  }
  enter();
  void* block = nullptr;
  AclError code = acl().aclrtMalloc(&block, static_cast<size_t>(size), kAclHugeFirst);
  if (code == kAclBadAlloc) {
    const std::lock_guard lock(mutex_);
    drop_cached();
    code = acl().aclrtMalloc(&block, static_cast<size_t>(size), kAclHugeFirst);
  }
  check(code, "aclrtMalloc");
  return block;
}

void Card::release(void* block, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  free_blocks_[block_size(bytes)].push_back(block);
}

void Card::drop_cached() {
  for (const auto& [bytes, blocks] : free_blocks_)
    for (void* block : blocks) acl().aclrtFree(block);
  free_blocks_.clear();
}

Card::Memory Card::memory() const {
  enter();
  size_t free = 0, total = 0;
  check(acl().aclrtGetMemInfo(kAclHbm, &free, &total), "aclrtGetMemInfo");
  return {.total = static_cast<int64_t>(total), .free = static_cast<int64_t>(free)};
}

std::shared_ptr<char> Card::pinned(int64_t bytes) {
  const int64_t size = block_size(bytes);
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
    check(acl().aclrtMallocHost(&block, static_cast<size_t>(size)), "aclrtMallocHost");
  }
  return {static_cast<char*>(block), [this, size](char* data) {
            const std::lock_guard lock(mutex_);
            free_pinned_[size].push_back(data);
          }};
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
  throw Error(code == kAclBadAlloc ? ErrorCode::kCapacity : ErrorCode::kInternal,
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
