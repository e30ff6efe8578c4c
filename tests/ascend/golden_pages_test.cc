// Seven rows of 1 to 300 tokens over few KV pages: pages are freed and handed out again to other rows, and
// the results stay those of the oracle.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "ascend/small_engine.h"
#include "engine/golden_check.h"

namespace longspan {
namespace {

using testing_support::compare_to_golden;
using testing_support::GoldenBound;
using testing_support::GoldenFinding;
using testing_support::GoldenModel;
using testing_support::GoldenPrompt;
using testing_support::Simulator;
using testing_support::SmallModel;

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

class AscendPages : public testing::TestWithParam<Case> {
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
  void submit(const GoldenPrompt& prompt, bool scored) {
    Request request = testing_support::greedy_request(prompt, scored);
    request.on_finish = [this, &prompt](const Result& result) {
      ++finished_;
      cached_ += result.cached_tokens;
      const GoldenFinding finding = compare_to_golden(prompt, result, bound_);
      EXPECT_EQ(finding.problem, "") << "prompt of " << prompt.ids.size() << " tokens";
      sum_ += finding.sum;
      compared_ += finding.compared;
    };
    engine_->submit(std::move(request));
  }

  const Simulator simulator_{GetParam().release};
  const SmallModel model_{GetParam().model};
  const GoldenModel golden_ = testing_support::load_golden_model(GetParam().model);
  const GoldenBound bound_{.logprob = golden_.bf16_noise.logprob, .router = golden_.bf16_noise.router};
  std::unique_ptr<Engine> engine_;
  size_t finished_ = 0;
  int64_t cached_ = 0;
  double sum_ = 0;
  int64_t compared_ = 0;
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
  EXPECT_LE(sum_ / static_cast<double>(compared_), 1.5 * golden_.bf16_noise.mean_logprob);
  if (!GetParam().prefix_cache) {
    EXPECT_EQ(engine_->stats().free_pages, GetParam().pages);
  }
  engine_.reset();
  EXPECT_EQ(simulator_.leaks(), "");
}

}  // namespace
}  // namespace longspan
