#include <gtest/gtest.h>
#include <longspan/error.h>

#include <numeric>
#include <vector>

#include "device/op_test.h"

namespace longspan {
namespace {

constexpr KvShape kShape{
    .layers = 2, .pages = 4, .page_size = 7, .heads_k = 3, .dim_k = 9, .heads_v = 2, .dim_v = 21};
constexpr int32_t kSlots = kShape.pages * kShape.page_size;
using Slots = std::vector<int32_t>;

/// A pool with a row of its own in every slot of every layer.
class KvCopy : public testing::TestWithParam<BackendCase> {
 protected:
  KvCopy() : pool_(runner_.ops().make_kv_pool(kShape)) {
    std::iota(all_.begin(), all_.end(), 0);
    for (int32_t layer = 0; layer < kShape.layers; ++layer) {
      TestMatrix k(kSlots, 27), v(kSlots, 42);
      k.fill_random(layer + 1), v.fill_random(layer + 11);
      runner_.ops().kv_write(runner_.ctx(), *pool_, layer, k.view(), v.view(), upload(all_));
    }
  }
  IndexArray upload(const std::vector<int32_t>& slots) { return runner_.ops().upload(runner_.ctx(), slots); }
  void read(int32_t layer, TestMatrix& k, TestMatrix& v) {
    runner_.ops().kv_read(runner_.ctx(), *pool_, layer, upload(all_), k.view(), v.view());
  }

  OpRunner runner_{GetParam()};
  std::unique_ptr<KvPool> pool_;
  std::vector<int32_t> all_ = std::vector<int32_t>(kSlots);
};

TEST_P(KvCopy, BringsRowsOfAllLayersAndTouchesNoOthers) {
  std::vector<TestMatrix> before_k, before_v;
  for (int32_t layer = 0; layer < kShape.layers; ++layer) {
    read(layer, before_k.emplace_back(kSlots, 27), before_v.emplace_back(kSlots, 42));
  }
  // The first five rows of page 2 to page 1: an odd count, in pages of an odd size.
  const std::vector<int32_t> from = {14, 15, 16, 17, 18}, to = {7, 8, 9, 10, 11};
  runner_.ops().kv_copy(runner_.ctx(), *pool_, from, to);
  for (int32_t layer = 0; layer < kShape.layers; ++layer) {
    TestMatrix k(kSlots, 27), v(kSlots, 42);
    read(layer, k, v);
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      const int32_t source = slot >= 7 && slot < 12 ? slot + 7 : slot;
      for (int64_t c = 0; c < 27; ++c) ASSERT_EQ(k.at(slot, c), before_k[layer].at(source, c)) << slot;
      for (int64_t c = 0; c < 42; ++c) ASSERT_EQ(v.at(slot, c), before_v[layer].at(source, c)) << slot;
    }
  }
}

TEST_P(KvCopy, BrokenCallsAreFound) {
  EXPECT_THROW(runner_.ops().kv_copy(runner_.ctx(), *pool_, Slots{7, 8}, Slots{14}), Error);
  EXPECT_THROW(runner_.ops().kv_copy(runner_.ctx(), *pool_, Slots{kSlots}, Slots{14}), Error);
  EXPECT_NO_THROW(runner_.ops().kv_copy(runner_.ctx(), *pool_, Slots{}, Slots{}));
}

INSTANTIATE_TEST_SUITE_P(Cpu, KvCopy, testing::ValuesIn(cpu_cases()), case_name);

}  // namespace
}  // namespace longspan
