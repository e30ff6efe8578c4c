#include "plan/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "plan/random_batch.h"

namespace longspan {
namespace {

using Rows = std::vector<BatchRow>;
using testing::HasSubstr;

constexpr CostShape kTiny = {.layers = 2,
                             .hidden = 8,
                             .heads_q = 2,
                             .heads_kv = 1,
                             .dim_k = 4,
                             .dim_v = 4,
                             .mlp_width = 16,
                             .vocab = 32};

std::string draw(const Rows& rows, int32_t cp, int32_t width) {
  const CpPlan plan = plan_context_parallel(rows, cp, {});
  return draw_plan(rows, plan, plan_cost(plan, kTiny), width);
}

TEST(PlanText, ShowsWhoOwnsWhat) {
  const std::string expected =
      "sequence 0: 4097 new + 512 cached, in 4 blocks\n"
      "          +------+------+------+------+\n"
      "  rank    |  0   |  1   |  1   |  0   |\n"
      "  tokens  | 1025 | 1024 | 1024 | 1024 |\n"
      "  keys    | 1537 | 2561 | 3585 | 4609 |\n"
      "          +------+------+------+------+\n"
      "sequence 1: 1 new + 9 cached, whole on rank 1\n";
  EXPECT_THAT(draw({{4097, 512}, {1, 9}}, 2, 80), testing::StartsWith(expected));
}

TEST(PlanText, ShowsEachRanksShare) {
  const std::string text = draw({{64, 0}, {3, 0}}, 2, 80);
  EXPECT_THAT(text, HasSubstr("rank     tokens       prev       next      GFLOP   share"));
  EXPECT_THAT(text, testing::ContainsRegex("   0 +35 +19 +16 +[0-9.e-]+ +5[0-9.]+%  #+\n"));
  EXPECT_THAT(text, testing::ContainsRegex("   1 +32 +16 +16 +[0-9.e-]+ +4[0-9.]+%  #+\n"));
  EXPECT_THAT(text, testing::ContainsRegex("imbalance 1\\.0[0-9]+ "));
}

TEST(PlanText, LongBarsWrap) {
  const std::string text = draw({{100000, 0}}, 9, 0);
  EXPECT_THAT(text, HasSubstr("in 18 blocks\n"));
  size_t bars = 0;
  for (size_t at = text.find("  rank    |"); at != std::string::npos; at = text.find("  rank    |", at + 1))
    ++bars;
  EXPECT_EQ(bars, 3u) << text;
}

TEST(PlanText, LinesStayWithinTheWidth) {
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    Rows rows = random_rows(random, 6, 20000);
    const int32_t width = 40 + i % 100;
    std::istringstream text(draw(rows, 1 + i % 20, width));
    for (std::string line; std::getline(text, line);)
      ASSERT_LE(line.size(), static_cast<size_t>(std::max(width, kMinPlanTextWidth))) << line;
  }
}

TEST(PlanText, TheLargestNumbersFit) {
  // Made up: a plan of so many tokens is too large to hold.
  CpPlan plan;
  plan.cp = 1;
  plan.block_len = {2147483647, 0};
  plan.ranks.resize(1);
  plan.ranks[0].total_q_prev_tokens = 2147483647;
  PlanCost cost;
  cost.ranks = {{.rows = 2147483647, .linear_flops = 1e30}};
  cost.total_flops = 1e30;
  std::istringstream text(draw_plan(Rows{{2147483647, 0}}, plan, cost, 0));
  for (std::string line; std::getline(text, line);)
    EXPECT_LE(line.size(), static_cast<size_t>(kMinPlanTextWidth)) << line;
}

TEST(PlanText, AnEmptyPlan) {
  EXPECT_THAT(draw({}, 2, 80), HasSubstr("imbalance 1.000"));
}

}  // namespace
}  // namespace longspan
