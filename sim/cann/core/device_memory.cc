#include "core/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "abi/acl.h"
#include "core/fault.h"

namespace cann_sim {
namespace {

constexpr uint64_t kMostSpan = uint64_t{256} << 30, kLeastSpan = uint64_t{1} << 30;
constexpr uint64_t kAlignment = 512;    // the runtime promises 64
constexpr uint64_t kGuard = 64 * 1024;  // between allocations

uint64_t round_up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::byte* map(uint64_t bytes, int protection) {
  void* data = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

}  // namespace

DeviceMemory::DeviceMemory(int devices, uint64_t bytes_per_device)
    : devices_(devices), capacity_(bytes_per_device), next_(devices, kGuard), used_(devices) {
  // Sanitizers leave less room for addresses.
  for (uint64_t span = kMostSpan; !base_ && span >= kLeastSpan; span /= 2) {
    span_ = span;
    base_ = map(span * static_cast<uint64_t>(devices), PROT_NONE);
  }
  if (!base_) fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "can't reserve addresses for {} devices", devices);
}

void* DeviceMemory::allocate(int device, uint64_t bytes) {
  if (bytes == 0) fail(ACL_ERROR_INVALID_PARAM, "aclrtMalloc: size 0 is not allowed");
  const std::lock_guard lock(mutex_);
  // What a card really takes: rounded up to 32 bytes, and 32 bytes of slack.
  const uint64_t taken = round_up(bytes, 32) + 32;
  if (used_[device] + taken > capacity_ || next_[device] + taken + kGuard > span_)
    fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMalloc: {} bytes asked for, {} of {} are free on device {}",
         bytes, capacity_ - used_[device], capacity_, device);
  std::byte* data = map(taken, PROT_READ | PROT_WRITE);
  if (!data)
    fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMalloc: the host has no {} bytes to stand for a device's",
         bytes);
  std::byte* address = base_ + static_cast<uint64_t>(device) * span_ + next_[device];
  next_[device] = round_up(next_[device] + taken + kGuard, kAlignment);
  used_[device] += taken;
  allocations_[reinterpret_cast<uintptr_t>(address)] = {bytes, data, WrittenMap(bytes), 0};
  return address;
}

void DeviceMemory::release(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(address));
  if (found == allocations_.end())
    fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtFree: {} is not the start of a device allocation", address);
  Allocation& allocation = found->second;
  if (!allocation.data) fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtFree: {} is freed a second time", address);
  const uint64_t taken = round_up(allocation.bytes, 32) + 32;
  munmap(allocation.data, taken);
  used_[device_of(address)] -= taken;
  allocation.data = nullptr;
  allocation.written = WrittenMap(0);
}

bool DeviceMemory::is_device_address(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  return at >= base_ && at < base_ + span_ * static_cast<uint64_t>(devices_);
}

int DeviceMemory::device_of(const void* address) const {
  return static_cast<int>(static_cast<uint64_t>(static_cast<const std::byte*>(address) - base_) / span_);
}

uint64_t DeviceMemory::free_bytes(int device) const {
  const std::lock_guard lock(mutex_);
  return capacity_ - used_[device];
}

DeviceMemory::Allocation& DeviceMemory::find(const void* address, uint64_t bytes, const std::string& what,
                                             int code, uint64_t& offset) {
  if (!is_device_address(address))
    fail(code, "{}: {} is not a device address (host memory, or null?)", what, address);
  const auto value = reinterpret_cast<uintptr_t>(address);
  auto after = allocations_.upper_bound(value);
  if (after == allocations_.begin()) fail(code, "{}: no allocation lies at {}", what, address);
  auto& [start, allocation] = *--after;
  offset = value - start;
  if (offset >= allocation.bytes && !(offset == allocation.bytes && bytes == 0))
    fail(code, "{}: no allocation lies at {} ({} bytes after the start of one of {} bytes)", what, address,
         offset, allocation.bytes);
  if (!allocation.data)
    fail(code, "{}: {} was freed ({} bytes into an allocation of {} bytes)", what, address, offset,
         allocation.bytes);
  if (bytes > allocation.bytes - offset)
    fail(code, "{}: {} bytes at offset {} run over the end of an allocation of {} bytes", what, bytes, offset,
         allocation.bytes);
  return allocation;
}

const std::byte* DeviceMemory::read(const void* address, uint64_t bytes, const std::string& what, int code) {
  const std::lock_guard lock(mutex_);
  uint64_t offset = 0;
  Allocation& allocation = find(address, bytes, what, code, offset);
  const uint64_t unwritten = allocation.written.first_unwritten(offset, bytes);
  if (unwritten != offset + bytes)
    fail(code, "{}: byte {} of {} was never written", what, unwritten - offset, bytes);
  return allocation.data + offset;
}

std::byte* DeviceMemory::write(void* address, uint64_t bytes, const std::string& what, int code) {
  const std::lock_guard lock(mutex_);
  uint64_t offset = 0;
  Allocation& allocation = find(address, bytes, what, code, offset);
  allocation.written.mark(offset, bytes);
  allocation.version = ++writes_;
  return allocation.data + offset;
}

bool DeviceMemory::written(const void* address, uint64_t bytes, const std::string& what, int code) {
  const std::lock_guard lock(mutex_);
  uint64_t offset = 0;
  const Allocation& allocation = find(address, bytes, what, code, offset);
  return allocation.written.first_unwritten(offset, bytes) == offset + bytes;
}

std::byte* DeviceMemory::clear(void* address, uint64_t bytes, const std::string& what, int code) {
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::byte* data = write(address, bytes, what, code);
  const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  const uint64_t whole = round_up(begin, page) - begin, behind = end % page;
  if (whole + behind >= bytes) {
    std::memset(data, 0, bytes);
  } else {
    std::memset(data, 0, whole);
    madvise(data + whole, bytes - whole - behind, MADV_DONTNEED);  // private, so zeros when they come again
    std::memset(data + bytes - behind, 0, behind);
  }
  return data;
}

void DeviceMemory::check(const void* address, uint64_t bytes, const std::string& what, int code) {
  const std::lock_guard lock(mutex_);
  uint64_t offset = 0;
  find(address, bytes, what, code, offset);
}

uint64_t DeviceMemory::version(const void* address) {
  const std::lock_guard lock(mutex_);
  uint64_t offset = 0;
  return find(address, 0, "version", ACL_ERROR_INTERNAL_ERROR, offset).version;
}

std::vector<std::string> DeviceMemory::leaks() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> result;
  for (const auto& [start, allocation] : allocations_)
    if (allocation.data)
      result.push_back(fmt::format("device {}: {} bytes at {:#x} were never freed",
                                   device_of(reinterpret_cast<void*>(start)), allocation.bytes, start));
  return result;
}

}  // namespace cann_sim
