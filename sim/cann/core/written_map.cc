#include "core/written_map.h"

#include <algorithm>

namespace cann_sim {

void WrittenMap::mark(uint64_t begin, uint64_t count) {
  const uint64_t end = begin + count;
  while (begin < end) {
    Block& block = blocks_[begin / kBlock];
    const uint64_t low = begin % kBlock;
    const uint64_t high = std::min(kBlock, low + (end - begin));
    if (!block.whole) {
      if (low == 0 && high == kBlock) {
        block.whole = true;
        block.bits.reset();
      } else {
        if (!block.bits) block.bits = std::make_unique<std::vector<bool>>(kBlock);
        std::fill(block.bits->begin() + static_cast<int64_t>(low),
                  block.bits->begin() + static_cast<int64_t>(high), true);
      }
    }
    begin += high - low;
  }
}

uint64_t WrittenMap::first_unwritten(uint64_t begin, uint64_t count) const {
  const uint64_t end = begin + count;
  while (begin < end) {
    const Block& block = blocks_[begin / kBlock];
    const uint64_t low = begin % kBlock;
    const uint64_t high = std::min(kBlock, low + (end - begin));
    if (!block.whole) {
      if (!block.bits) return begin;
      for (uint64_t i = low; i < high; ++i)
        if (!(*block.bits)[i]) return begin + (i - low);
    }
    begin += high - low;
  }
  return end;
}

}  // namespace cann_sim
