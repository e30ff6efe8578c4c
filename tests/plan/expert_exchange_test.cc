#include "plan/expert_exchange.h"

#include <gtest/gtest.h>

#include <cmath>

namespace longspan {
namespace {

LayoutModel large_model() {  // Qwen3-30B-A3B
  return {.heads_q = 32,
          .heads_kv = 4,
          .experts = 128,
          .experts_per_token = 8,
          .hidden = 2048,
          .expert_width = 768,
          .vocab = 151936};
}

Layout spread(const LayoutModel& model, int32_t cp, int32_t ep, int32_t tp = 0) {
  return make_layout({.tp = tp, .cp = cp, .moe_dp = 1, .ep = ep}, model);
}

TEST(ExpertExchange, NothingTravelsToExpertsWhereEveryRankHasTheRows) {
  const LayoutModel model = large_model();
  for (const LayoutOptions& options : {LayoutOptions{.tp = 4, .ep = 4},
                                       {.tp = 4, .cp = 2, .moe_dp = 2, .ep = 2},
                                       {.cp = 4, .moe_dp = 4},
                                       {}})
    EXPECT_EQ(choose_expert_exchange(model, make_layout(options, model)), ExpertExchange::kReduce);
  LayoutModel dense = model;
  dense.experts = dense.experts_per_token = 0;
  EXPECT_EQ(choose_expert_exchange(dense, make_layout({.tp = 4, .cp = 4}, dense)), ExpertExchange::kReduce);
}

// 8 of 128 experts: nearly every row has one on either of two ranks, but not on each of four or more.
TEST(ExpertExchange, RowsGoToTheirExpertsWhereThatSparesBytes) {
  const LayoutModel model = large_model();
  EXPECT_EQ(choose_expert_exchange(model, spread(model, 2, 2)), ExpertExchange::kGather);
  for (const int32_t ranks : {4, 8, 16})
    EXPECT_EQ(choose_expert_exchange(model, spread(model, ranks, ranks)), ExpertExchange::kAllToAll) << ranks;
  EXPECT_EQ(choose_expert_exchange(model, spread(model, 4, 1)), ExpertExchange::kGather)
      << "every rank has a part of every expert";
  LayoutModel few = model;
  few.experts_per_token = 1;
  EXPECT_EQ(choose_expert_exchange(few, spread(few, 2, 2)), ExpertExchange::kAllToAll);
}

TEST(ExpertExchange, BytesAreThoseOfTheRowsThatGoAndComeBack) {
  const LayoutModel model = large_model();
  const double row = 4 * 2048, choices = 8 * 8;
  const Layout eight = spread(model, 8, 8);
  EXPECT_DOUBLE_EQ(expert_exchange_bytes(ExpertExchange::kGather, model, eight), (7 + 7) * row);
  // A rank with 16 of 128 experts has none of a row's 8 with probability C(112, 8) / C(128, 8).
  double none = 1;
  for (int i = 0; i < 8; ++i) none *= (112.0 - i) / (128.0 - i);
  const double owners = 8 * (1 - none);
  EXPECT_NEAR(expert_exchange_bytes(ExpertExchange::kAllToAll, model, eight),
              7 * (owners / 8 * row + choices) + owners * 7 / 8 * row, 1e-6);
  // With both halves of every expert's width elsewhere a row goes, and comes, twice.
  const Layout split = spread(model, 8, 4);
  EXPECT_DOUBLE_EQ(expert_exchange_bytes(ExpertExchange::kGather, model, split), (7 + 7) * row);
  EXPECT_LT(expert_exchange_bytes(ExpertExchange::kAllToAll, model, split), (7 + 7) * row);
  EXPECT_GT(expert_exchange_bytes(ExpertExchange::kAllToAll, model, split),
            expert_exchange_bytes(ExpertExchange::kAllToAll, model, eight));
  // Four ranks with the same rows, experts spread over them: a sum, two halves of it either way.
  EXPECT_DOUBLE_EQ(
      expert_exchange_bytes(ExpertExchange::kReduce, model, make_layout({.tp = 4, .ep = 4}, model)),
      1.5 * row);
}

TEST(ExpertExchange, ASharedExpertAddsAnAnswerWhereNoRoutedOneGivesIt) {
  LayoutModel model = large_model();
  const Layout layout = spread(model, 8, 8);
  const double without = expert_exchange_bytes(ExpertExchange::kAllToAll, model, layout);
  model.shared_expert_width = 1000;
  const double with = expert_exchange_bytes(ExpertExchange::kAllToAll, model, layout);
  EXPECT_GT(with, without);
  EXPECT_LT(with, without + 4 * 2048);
}

TEST(ExpertExchange, ExpertsThatArentSpreadEvenly) {
  LayoutModel model = large_model();
  model.experts = 5;
  model.experts_per_token = 2;
  // Ranks with 2, 2 and 1 of 5 experts are missed by 3, 3 and 6 of 10 pairs.
  const Layout layout = spread(model, 3, 3);
  const double row = 4 * 2048, owners = 0.7 + 0.7 + 0.4;
  EXPECT_NEAR(expert_exchange_bytes(ExpertExchange::kAllToAll, model, layout),
              2 * (owners / 3 * row + 16) + owners * 2 / 3 * row, 1e-6);
}

}  // namespace
}  // namespace longspan
