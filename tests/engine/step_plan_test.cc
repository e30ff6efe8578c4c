#include "engine/step_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace longspan {
namespace {

// One rank takes a step whole where there is such a rank and nothing is cut; the rows alone decide.
TEST(StepPlan, IsThatOfTheRanksThatRunIt) {
  std::mt19937 random(1);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % static_cast<uint32_t>(n)); };
  int wide = 0, cut = 0;
  for (int trial = 0; trial < 1000; ++trial) {
    BatchLayout layout;
    std::vector<BatchRow>& rows = layout.rows;
    for (int32_t s = 1 + below(8); s > 0; --s)
      rows.push_back({.new_tokens = below(2) ? 1 : 1 + below(300), .prefix_len = below(5000)});
    const int32_t cp = 1 + below(5);
    const CpPolicy policy{.min_tokens_to_cut = below(40), .min_tokens_per_rank = below(200)};
    const bool has_wide = cp > 1 && below(2);
    const StepPlan plan = plan_step(layout, cp, policy, has_wide);
    EXPECT_EQ(plan.layout, layout);
    const CpPolicy always{.min_tokens_to_cut = policy.min_tokens_to_cut};
    const CpPlan split = plan_context_parallel(rows, cp, has_wide ? policy : always);
    EXPECT_EQ(plan.wide, has_wide && !split.any_cut);
    EXPECT_EQ(plan.cp, plan.wide ? plan_context_parallel(rows, 1, {}) : split);
    wide += plan.wide;
    cut += split.any_cut;
  }
  EXPECT_GT(wide, 100);
  EXPECT_GT(cut, 100);
}

}  // namespace
}  // namespace longspan
