#include "schedule/step_cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace longspan {
namespace {

/// A machine: 5 ms a step, 0.1 ms a token, 1 ms for 50,000 pairs.
double machine_ms(const StepWork& work) {
  return 5 + 0.1 * work.tokens + work.pairs / 50000;
}

StepWork chunk(int64_t tokens, int64_t prefix) {
  StepWork work;
  work.add(tokens, prefix);
  return work;
}

TEST(StepWork, CountsWhatACausalRowSees) {
  const StepWork work =
      work_of(std::vector<BatchRow>{{.new_tokens = 3, .prefix_len = 10}, {.new_tokens = 1}});
  EXPECT_EQ(work.tokens, 4);
  EXPECT_EQ(work.pairs, 11 + 12 + 13 + 1);
}

TEST(StepCost, FindsTheTermsOfAMachine) {
  StepCost cost;
  EXPECT_FALSE(cost.known());
  std::mt19937 random(5);
  for (int i = 0; i < 40; ++i) {
    const StepWork work = chunk(1 + random() % 4000, random() % 100000);
    cost.observe(work, machine_ms(work));
  }
  for (const auto& work : {chunk(1, 0), chunk(100, 50000), chunk(8192, 120000)})
    EXPECT_NEAR(cost.predict_ms(work), machine_ms(work), 0.01 * machine_ms(work));
}

TEST(StepCost, OneStepSaysWhatATokenCosts) {
  StepCost cost;
  cost.observe(chunk(100, 0), 50);
  EXPECT_NEAR(cost.predict_ms(chunk(10, 0)), 5, 1e-9);
  EXPECT_NEAR(cost.predict_ms(chunk(1000, 0)), 500, 1e-9);
}

// Chunks of one size can't tell a token's cost from a step's: the dearer token is assumed.
TEST(StepCost, WhatChunksOfOneSizeCantTellGoesToTokens) {
  StepCost cost;
  for (int64_t prefix = 0; prefix < 8; ++prefix)
    cost.observe(chunk(512, 512 * prefix), machine_ms(chunk(512, 512 * prefix)));
  const StepWork alike = chunk(512, 512 * 8), larger = chunk(2048, 0);
  EXPECT_NEAR(cost.predict_ms(alike), machine_ms(alike), 1);
  EXPECT_GE(cost.predict_ms(larger), machine_ms(larger));
}

TEST(StepCost, NoTermIsNegativeWhateverIsMeasured) {
  std::mt19937 random(9);
  for (int trial = 0; trial < 200; ++trial) {
    StepCost cost;
    for (int i = 0; i < 30; ++i)
      cost.observe(chunk(1 + random() % 500, random() % 5000), 1 + static_cast<double>(random() % 1000));
    EXPECT_GT(cost.predict_ms(chunk(1, 0)), 0);
    EXPECT_GE(cost.predict_ms(chunk(200, 1000)), cost.predict_ms(chunk(100, 1000)));
    EXPECT_GE(cost.predict_ms(chunk(100, 2000)), cost.predict_ms(chunk(100, 1000)));
  }
}

TEST(StepCost, FollowsAMachineThatBecomesSlower) {
  StepCost cost;
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) {
    const StepWork work = chunk(1 + random() % 4000, random() % 10000);
    cost.observe(work, (i < 100 ? 1 : 3) * machine_ms(work));
  }
  EXPECT_NEAR(cost.predict_ms(chunk(1000, 1000)), 3 * machine_ms(chunk(1000, 1000)), 20);
}

TEST(StepCost, CautionGrowsWithTheNoiseAndGoesAgain) {
  StepCost cost;
  std::mt19937 random(3);
  const auto run = [&](int steps, double spread) {
    int longer = 0;
    for (int i = 0; i < steps; ++i) {
      const StepWork work = chunk(1 + random() % 4000, random() % 10000);
      const double ms = machine_ms(work) * (1 + spread * static_cast<double>(random() % 1000) / 1000);
      longer += ms > cost.cautious_ms(work) ? 1 : 0;
      cost.observe(work, ms);
    }
    return longer;
  };
  const StepWork work = chunk(1000, 0);
  run(300, 0);
  EXPECT_LT(cost.cautious_ms(work), 1.01 * cost.predict_ms(work));
  run(200, 0.5);
  EXPECT_LT(run(1000, 0.5), 15) << "few take longer than the cautious guess";
  EXPECT_GT(cost.cautious_ms(work), 1.1 * cost.predict_ms(work));
  run(2000, 0);
  EXPECT_LT(cost.cautious_ms(work), 1.01 * cost.predict_ms(work));
}

TEST(StepCost, WhatTookNoTimeSaysNothing) {
  StepCost cost;
  cost.observe(chunk(10, 0), 0);
  cost.observe({}, 5);
  cost.observe(chunk(10, 0), std::nan(""));
  EXPECT_FALSE(cost.known());
  EXPECT_EQ(cost.predict_ms(chunk(10, 0)), 0);
}

}  // namespace
}  // namespace longspan
