#include "device/arena.h"

#include <longspan/error.h>

#include <algorithm>

#include "base/check.h"

namespace longspan {
namespace {

constexpr int64_t kAlignment = 64;

int64_t round_up(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Arena::~Arena() {
  release_all();
}

void* Arena::allocate(int64_t bytes) {
  bytes = round_up(std::max<int64_t>(bytes, 1) + source_.slack_bytes());
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) add_block(bytes);
  void* result = blocks_[block_].data + used_;
  used_ += bytes;
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return result;
}

void Arena::settle() {
  check(live_bytes_ == 0, "an arena settles while nothing of it is in use");
  if (blocks_.size() <= 1) return;
  release_all();
  try {
    add_block(peak_bytes_);
  } catch (const Error&) {  // memory in pieces: the next step takes what it needs as it did
  }
}

void Arena::release_all() {
  for (const Block& block : blocks_) source_.release(block.data, block.bytes);
  blocks_.clear();
  block_ = 0;
  used_ = 0;
}

void Arena::add_block(int64_t bytes) {
  int64_t block_bytes = std::max(bytes, source_.least_block_bytes());
  void* data = nullptr;
  try {
    data = source_.allocate(block_bytes);
  } catch (const Error&) {  // a limit on address space: only what is needed then
    if (block_bytes == bytes) throw;
    block_bytes = bytes;
    data = source_.allocate(block_bytes);
  }
  blocks_.push_back({static_cast<char*>(data), block_bytes});
}

Matrix Arena::matrix(int64_t rows, int64_t cols, DType dtype) {
  return {allocate(rows * cols * size_of(dtype)), dtype, rows, cols, cols};
}

}  // namespace longspan
