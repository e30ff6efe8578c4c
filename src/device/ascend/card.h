#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/arena.h"
#include "device/ascend/cann_loader.h"

namespace longspan::ascend {

/// One NPU of this process: its runtime, its memory, and pinned host memory. Thread-safe; every thread that
/// calls CANN enters the card first.
class Card final : public BlockSource {
 public:
  /// Throws Error(kNotSupported) where CANN, the driver or the device is missing.
  Card(const std::string& home, int32_t device);
  ~Card() override;
  Card(const Card&) = delete;
  Card& operator=(const Card&) = delete;

  const Cann& cann() const { return cann_; }
  const AclRuntimeApi& acl() const { return cann_.acl; }
  const AclBaseApi& base() const { return cann_.base; }
  int32_t device() const { return device_; }
  int32_t count() const { return count_; }  // of cards that this process sees

  /// A thread's device is its own setting.
  void enter() const;

  // Blocks of device memory. Nothing is kept: arenas and buffers keep theirs. The device must be done with a
  // block when it is released.
  void* allocate(int64_t bytes) override;
  void release(void* block, int64_t bytes) override;
  int64_t least_block_bytes() const override { return int64_t{16} << 20; }
  int64_t slack_bytes() const override { return 32; }
  struct Memory {
    int64_t total = 0, free = 0;  // bytes
  };
  Memory memory() const;

  /// Host memory that asynchronous copies can use; what is dropped must not be part of a copy under way. Kept
  /// for the next request of its class (powers of two), so steps of any sizes make few blocks.
  std::shared_ptr<char> pinned(int64_t bytes);

  /// Throws Error where a call did not return 0: kCapacity for no memory, else kInternal, with CANN's text.
  void check(int code, const char* call) const;
  /// CANN's text of the thread's last error.
  std::string recent_error() const;

 private:
  void drop_pinned();

  Cann cann_;
  const int32_t device_;
  int32_t count_ = 0;
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_pinned_;  // by size
};

/// A block of device memory that frees itself.
class DeviceBuffer {
 public:
  DeviceBuffer(Card& card, int64_t bytes) : card_(card), bytes_(bytes), data_(card.allocate(bytes)) {}
  ~DeviceBuffer() { card_.release(data_, bytes_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  /// Waits until done; `bytes` may be less than the buffer has.
  void fill(const void* host, int64_t bytes, int64_t at = 0);

 private:
  Card& card_;
  const int64_t bytes_;
  void* const data_;
};

}  // namespace longspan::ascend
