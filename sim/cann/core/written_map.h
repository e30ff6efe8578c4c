#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace cann_sim {

/// Which bytes of an allocation have been written: whole blocks by a flag, mixed ones by a bit a byte.
class WrittenMap {
 public:
  explicit WrittenMap(uint64_t bytes) : blocks_((bytes + kBlock - 1) / kBlock) {}

  void mark(uint64_t begin, uint64_t count);
  /// The first byte of the range that was never written, or begin + count.
  uint64_t first_unwritten(uint64_t begin, uint64_t count) const;

 private:
  static constexpr uint64_t kBlock = 4096;
  struct Block {
    bool whole = false;
    std::unique_ptr<std::vector<bool>> bits;  // null and not whole: nothing
  };
  std::vector<Block> blocks_;
};

}  // namespace cann_sim
