#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/matrix.h"

namespace longspan {

/// Where an arena's blocks come from: the device's allocator.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  virtual void* allocate(int64_t bytes) = 0;  // 64-byte aligned; throws Error(kCapacity)
  virtual void release(void* block, int64_t bytes) = 0;
  /// What an arena asks for at least. Large where memory that is not touched costs nothing: one block then
  /// holds everything, and none is left half empty.
  virtual int64_t least_block_bytes() const { return int64_t{1} << 20; }
  /// What must lie behind each piece of a block, because kernels read past its end.
  virtual int64_t slack_bytes() const { return 0; }
};

/// Scratch memory of one rank's step: allocations only move forward, a Scope gives them back in stack order.
/// Blocks are kept between steps. Not thread-safe: a rank's master thread allocates.
class Arena {
 public:
  explicit Arena(BlockSource& source) : source_(source) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Uninitialised, 64-byte aligned, valid until the enclosing Scope ends.
  void* allocate(int64_t bytes);
  Matrix matrix(int64_t rows, int64_t cols, DType dtype = DType::kF32);

  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), block_(arena.block_), used_(arena.used_), live_(arena.live_bytes_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.live_bytes_ = live_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t used_;
    int64_t live_;
  };

  /// To be called between steps, outside every Scope and with no work under way: where steps have grown out
  /// of a block, one that holds the peak takes the place of all.
  void settle();

  /// The most that was in use at a time.
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  void add_block(int64_t bytes);
  void release_all();

  struct Block {
    char* data;
    int64_t bytes;
  };
  BlockSource& source_;
  std::vector<Block> blocks_;
  size_t block_ = 0;  // the block being filled
  int64_t used_ = 0;  // bytes of it in use
  int64_t live_bytes_ = 0;
  int64_t peak_bytes_ = 0;
};

}  // namespace longspan
