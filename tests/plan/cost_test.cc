#include "plan/cost.h"

#include <gtest/gtest.h>

namespace longspan {
namespace {

using Rows = std::vector<BatchRow>;

TEST(Cost, AQwen3MoeTokenIsTwiceItsActiveParameters) {
  const CostShape shape = {.layers = 48,
                           .moe_layers = 48,
                           .hidden = 2048,
                           .heads_q = 32,
                           .heads_kv = 4,
                           .dim_k = 128,
                           .dim_v = 128,
                           .experts = 128,
                           .experts_per_token = 8,
                           .expert_width = 768,
                           .vocab = 151936};
  // By hand: q 2048x4096, k and v 2048x512 each, o 4096x2048, router 2048x128, 8 experts of 3 x 2048x768.
  const double parameters =
      48.0 * (2048 * 4096 + 2 * 2048 * 512 + 4096 * 2048 + 2048 * 128 + 8 * 3 * 2048 * 768);
  EXPECT_EQ(linear_flops_per_row(shape), 2 * parameters);
  EXPECT_EQ(attention_flops_per_pair(shape), 48.0 * 32 * 4 * 128);
  EXPECT_EQ(logits_flops_per_sequence(shape), 2.0 * 2048 * 151936);
}

TEST(Cost, DenseAndSharedExpertLayers) {
  const CostShape shape = {.layers = 3,
                           .moe_layers = 2,
                           .hidden = 10,
                           .heads_q = 2,
                           .heads_kv = 1,
                           .dim_k = 4,
                           .dim_v = 3,
                           .mlp_width = 20,
                           .experts = 6,
                           .experts_per_token = 2,
                           .expert_width = 5,
                           .shared_expert_width = 7};
  const int attention = 10 * 8 + 10 * 4 + 10 * 3 + 6 * 10;
  const int dense = 3 * 10 * 20;
  const int moe = 10 * 6 + 2 * 3 * 10 * 5 + 3 * 10 * 7 + 10;
  EXPECT_EQ(linear_flops_per_row(shape), 2.0 * (3 * attention + dense + 2 * moe));
}

TEST(Cost, SumsOverRanksDoNotDependOnTheCut) {
  const CostShape shape = {.layers = 2,
                           .hidden = 8,
                           .heads_q = 2,
                           .heads_kv = 1,
                           .dim_k = 4,
                           .dim_v = 4,
                           .mlp_width = 16,
                           .vocab = 32};
  const Rows rows = {{1000, 30}, {1, 500}, {7, 0}};
  const PlanCost one = plan_cost(plan_context_parallel(rows, 1, {}), shape);
  EXPECT_EQ(one.imbalance, 1);
  EXPECT_EQ(one.ranks[0].rows, 1008);
  for (int32_t cp = 2; cp <= 9; ++cp) {
    const PlanCost cost = plan_cost(plan_context_parallel(rows, cp, {}), shape);
    EXPECT_DOUBLE_EQ(cost.total_flops, one.total_flops);
    EXPECT_GE(cost.imbalance, 1);
    EXPECT_LT(cost.imbalance, 1.05);
    int64_t pairs = 0;
    for (const RankCost& rank : cost.ranks) pairs += rank.causal_pairs;
    EXPECT_EQ(pairs, one.ranks[0].causal_pairs);
  }
}

TEST(Cost, OneBusyRankIsTheWorstImbalance) {
  const CostShape shape = {.layers = 1, .hidden = 8, .heads_q = 1, .heads_kv = 1, .dim_k = 4, .dim_v = 4};
  EXPECT_DOUBLE_EQ(plan_cost(plan_context_parallel(Rows{{3, 0}}, 4, {}), shape).imbalance, 4);
  EXPECT_DOUBLE_EQ(plan_cost(plan_context_parallel({}, 4, {}), shape).imbalance, 1);
}

}  // namespace
}  // namespace longspan
