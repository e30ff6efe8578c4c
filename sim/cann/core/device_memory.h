#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/written_map.h"

namespace cann_sim {

/// Memory of all devices. A device address lies in a reserved range that the host can't touch (PROT_NONE);
/// the bytes live elsewhere. Addresses are never handed out twice, so use after free is always told apart.
/// Thread-safe.
class DeviceMemory {
 public:
  DeviceMemory(int devices, uint64_t bytes_per_device);

  /// Throws Fault: ACL_ERROR_INVALID_PARAM for size 0, ACL_ERROR_RT_MEMORY_ALLOCATION when the device is
  /// full.
  void* allocate(int device, uint64_t bytes);
  void release(const void* address);

  bool is_device_address(const void* address) const;
  int device_of(const void* address) const;
  uint64_t free_bytes(int device) const;
  uint64_t total_bytes() const { return capacity_; }

  /// The bytes behind [address, address + bytes). Throws Fault(code) naming `what` for an address that is
  /// none, was freed or runs over the end of its allocation; read: also for bytes never written. write:
  /// marks them written.
  const std::byte* read(const void* address, uint64_t bytes, const std::string& what, int code);
  std::byte* write(void* address, uint64_t bytes, const std::string& what, int code);
  /// Whether all of these bytes have been written.
  bool written(const void* address, uint64_t bytes, const std::string& what, int code);
  /// Writes zeros; the host's memory for whole pages of them is given back until they are touched.
  std::byte* clear(void* address, uint64_t bytes, const std::string& what, int code);
  /// Checks the address range alone.
  void check(const void* address, uint64_t bytes, const std::string& what, int code);

  /// Changes whenever the allocation at `address` is written.
  uint64_t version(const void* address);

  std::vector<std::string> leaks() const;

 private:
  struct Allocation {
    uint64_t bytes = 0;
    std::byte* data = nullptr;  // null: freed
    WrittenMap written{0};
    uint64_t version = 0;
  };
  Allocation& find(const void* address, uint64_t bytes, const std::string& what, int code, uint64_t& offset);

  const int devices_;
  const uint64_t capacity_;
  uint64_t span_ = 0;  // addresses of one device
  std::byte* base_ = nullptr;
  mutable std::mutex mutex_;
  uint64_t writes_ = 0;
  std::vector<uint64_t> next_, used_;            // of each device
  std::map<uintptr_t, Allocation> allocations_;  // by start; freed ones stay as tombstones
};

}  // namespace cann_sim
