#include "device/arena.h"

#include <algorithm>

namespace longspan {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kMinBlockBytes = int64_t{1} << 20;

int64_t round_up(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Arena::~Arena() {
  for (const Block& block : blocks_) source_.release(block.data, block.bytes);
}

void* Arena::allocate(int64_t bytes) {
  bytes = round_up(std::max<int64_t>(bytes, 1));
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const int64_t block_bytes = std::max(bytes, kMinBlockBytes);
    blocks_.push_back({static_cast<char*>(source_.allocate(block_bytes)), block_bytes});
  }
  void* result = blocks_[block_].data + used_;
  used_ += bytes;
  return result;
}

Matrix Arena::matrix(int64_t rows, int64_t cols, DType dtype) {
  return {allocate(rows * cols * size_of(dtype)), dtype, rows, cols, cols};
}

int64_t Arena::reserved_bytes() const {
  int64_t total = 0;
  for (const Block& block : blocks_) total += block.bytes;
  return total;
}

}  // namespace longspan
