#pragma once

#include <cstdint>
#include <utility>

#include "device/arena.h"

namespace longspan {

/// Blocks of the host's memory; large ones are whole pages from the system, on huge pages where allowed.
/// Thread-safe.
class HostMemory : public BlockSource {
 public:
  void* allocate(int64_t bytes) override;
  void release(void* block, int64_t bytes) override;
  int64_t least_block_bytes() const override { return int64_t{4} << 30; }  // address space only
};

/// Bytes this process may use: the machine's memory or the control group's limit (version 1 or 2), whichever
/// is lower.
int64_t host_memory_bytes();

/// A block that frees itself, 64-byte aligned.
class HostBuffer {
 public:
  HostBuffer() = default;
  explicit HostBuffer(int64_t bytes);
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace longspan
