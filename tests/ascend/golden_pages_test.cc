// Seven rows of 1 to 300 tokens over few KV pages: pages are freed and handed out again to other rows, and
// the results stay those of the oracle.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "ascend/golden_fixture.h"
#include "ascend/small_engine.h"

namespace longspan {
namespace {

using testing_support::GoldenPrompt;

constexpr size_t kLengths[] = {300, 1, 33, 130, 2, 61, 7};
constexpr int64_t kPage = 128;

struct Case {
  const char *model, *release;
  int32_t cp;
  bool hccl, prefix_cache;
  int64_t
      pages;  // of the pool: all rows together take 10, and a row starts where there is one for each to grow
  bool shards = false;  // pages are dealt out to the ranks
};

constexpr Case kCases[] = {
    {"qwen3_moe_wide_heads", "8.5", 1, false, false, 16},
    {"qwen3_moe_wide_heads", "8.5", 2, true, false, 16},
    {"qwen3_moe_wide_heads", "8.3", 3, true, true, 5},
    {"llama_llama3", "9.0", 4, true, false, 16},
    {"llama_llama3", "8.5", 3, false, true, 5},
    {"qwen2_moe_shared", "9.0", 2, false, false, 16},
    {"qwen2_moe_shared", "9.0", 4, true, true, 5},
    {"qwen3_moe_wide_heads", "8.5", 2, true, false, 16, true},
    {"qwen2_moe_shared", "9.0", 3, true, true, 6, true},
};

class AscendPages : public testing_support::GoldenOnSimulator<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    simulator_.seed(static_cast<uint64_t>(c.cp + c.pages));
    EngineOptions options = model_.options(simulator_, c.cp, c.hccl);
    options.max_total_tokens = c.pages * kPage;
    options.prefix_cache = c.prefix_cache;
    options.shard_kv = c.shards;
    engine_ = Engine::open(options);
  }
  const GoldenPrompt& prompt(size_t length) const {
    return *std::ranges::find_if(golden_.prompts, [&](const auto& p) { return p.ids.size() == length; });
  }
};

INSTANTIATE_TEST_SUITE_P(Pools, AscendPages, testing::ValuesIn(kCases), [](const auto& info) {
  const Case& c = info.param;
  return fmt::format("{}_cann{}{}_cp{}_{}_{}pages{}{}", c.model, c.release[0], c.release[2], c.cp,
                     c.hccl ? "cards" : "one_card", c.pages, c.prefix_cache ? "_cached" : "",
                     c.shards ? "_sharded" : "");
});

TEST_P(AscendPages, HandedOutAgainHoldTheRightKeys) {
  ASSERT_EQ(engine_->stats().total_pages, GetParam().pages);
  std::vector<size_t> lengths(std::begin(kLengths), std::end(kLengths));
  for (int round = 0; round < 3; ++round) {  // 30 pages in all
    for (const size_t length : lengths) submit(prompt(length), round != 1);
    engine_->step();
    if (!GetParam().prefix_cache) {
      EXPECT_EQ(engine_->stats().running, 7) << "one batch";
    }
    engine_->run();
    engine_->check_integrity();
    std::ranges::rotate(lengths, lengths.begin() + 3);  // other rows get the pages
  }
  EXPECT_EQ(finished_, 3 * lengths.size());
  EXPECT_EQ(cached_ > 0, GetParam().prefix_cache);
  expect_small_mean();
  if (!GetParam().prefix_cache) {
    EXPECT_EQ(engine_->stats().free_pages, GetParam().pages);
  }
  engine_.reset();
  EXPECT_EQ(simulator_.leaks(), "");
}

}  // namespace
}  // namespace longspan
