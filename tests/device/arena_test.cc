#include "device/arena.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <cstring>
#include <map>

#include "device/host_memory.h"

namespace longspan {
namespace {

/// Counts what it hands out.
class CountingSource : public BlockSource {
 public:
  void* allocate(int64_t bytes) override {
    void* block = memory_.allocate(bytes);
    live_[block] = bytes;
    ++allocations;
    return block;
  }
  void release(void* block, int64_t bytes) override {
    EXPECT_EQ(live_.at(block), bytes);
    live_.erase(block);
    memory_.release(block, bytes);
  }
  size_t live() const { return live_.size(); }
  int64_t live_bytes() const {
    int64_t sum = 0;
    for (const auto& [block, bytes] : live_) sum += bytes;
    return sum;
  }
  int allocations = 0;

 private:
  HostMemory memory_;
  std::map<void*, int64_t> live_;
};

TEST(Arena, AllocationsAreAlignedAndDisjoint) {
  CountingSource source;
  Arena arena(source);
  std::vector<std::pair<char*, int64_t>> blocks;
  for (int64_t bytes : {1, 63, 64, 65, 100000, 3 << 20, 0, 7}) {
    auto* p = static_cast<char*>(arena.allocate(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    std::memset(p, static_cast<int>(blocks.size()), static_cast<size_t>(bytes));
    blocks.emplace_back(p, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    for (int64_t b = 0; b < blocks[i].second; ++b) ASSERT_EQ(blocks[i].first[b], static_cast<char>(i));
}

TEST(Arena, ScopesGiveBackAndBlocksAreKept) {
  CountingSource source;
  Arena arena(source);
  void* first = nullptr;
  for (int step = 0; step < 3; ++step) {
    const Arena::Scope outer(arena);
    void* p = arena.allocate(1000);
    if (step == 0) first = p;
    EXPECT_EQ(p, first);
    void* inner_p = nullptr;
    {
      const Arena::Scope inner(arena);
      inner_p = arena.allocate(5 << 20);
    }
    EXPECT_EQ(arena.allocate(5 << 20), inner_p);
  }
  EXPECT_EQ(source.allocations, 2);
  EXPECT_GE(arena.peak_bytes(), (5 << 20) + 1000);
  EXPECT_LT(arena.peak_bytes(), 7 << 20);
}

// Steps that grow leave no block behind that later ones walk past.
TEST(Arena, SettlesInOneBlockOfThePeak) {
  CountingSource source;
  Arena arena(source);
  for (int64_t step = 1; step <= 20; ++step) {
    arena.settle();
    EXPECT_LE(source.live(), 1u);
    const Arena::Scope scope(arena);
    arena.allocate(step << 19);
    arena.allocate(step << 20);
  }
  arena.settle();
  EXPECT_EQ(source.live_bytes(), arena.peak_bytes());
  EXPECT_EQ(arena.peak_bytes(), 30 << 20);
  const int before = source.allocations;
  {
    const Arena::Scope scope(arena);
    auto* first = static_cast<char*>(arena.allocate(10 << 20));
    EXPECT_EQ(arena.allocate(20 << 20), first + (10 << 20));
  }
  arena.settle();
  EXPECT_EQ(source.allocations, before) << "a step that fits changes nothing";
}

TEST(Arena, DoesNotSettleUnderAStep) {
  CountingSource source;
  Arena arena(source);
  const Arena::Scope scope(arena);
  arena.allocate(1);
  EXPECT_THROW(arena.settle(), Error);
}

/// Has room for small blocks only, and would like to give large ones.
class TightSource final : public CountingSource {
 public:
  void* allocate(int64_t bytes) override {
    if (bytes > 8 << 20) throw Error(ErrorCode::kCapacity, "too large");
    return CountingSource::allocate(bytes);
  }
  int64_t least_block_bytes() const override { return 64 << 20; }
};

TEST(Arena, TakesLessWhereTheLeastBlockIsRefused) {
  TightSource source;
  Arena arena(source);
  EXPECT_NE(arena.allocate(5 << 20), nullptr);
  EXPECT_THROW(arena.allocate(9 << 20), Error);
  EXPECT_EQ(source.allocations, 1);
}

TEST(Arena, OneUntouchedBlockHoldsEverythingOnTheHost) {
  HostMemory memory;
  Arena arena(memory);
  char* first = static_cast<char*>(arena.allocate(100));
  EXPECT_EQ(static_cast<char*>(arena.allocate(300 << 20)), first + 128);
}

TEST(Arena, ReleasesItsBlocks) {
  CountingSource source;
  {
    Arena arena(source);
    arena.allocate(1);
    arena.allocate(10 << 20);
    EXPECT_GT(source.live(), 0u);
  }
  EXPECT_EQ(source.live(), 0u);
}

TEST(HostMemory, RefusesWhatCannotBeReserved) {
  HostMemory memory;
  try {
    memory.allocate(int64_t{1} << 60);
    FAIL() << "an exbibyte was given";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kCapacity);
  }
  EXPECT_GT(host_memory_bytes(), 0);
}

TEST(HostMemory, BuffersMove) {
  HostBuffer a(2 << 20);
  char* data = a.data();
  data[5] = 7;
  HostBuffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(a.data(), nullptr);
  a = std::move(b);
  EXPECT_EQ(a.data()[5], 7);
}

}  // namespace
}  // namespace longspan
