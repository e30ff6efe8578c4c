#include "schedule/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace longspan {
namespace {

using testing::ElementsAre;

constexpr Demand kDecode{.pending = 1, .decoding = true};
Demand prompt(int32_t pending) {
  return {.pending = pending, .decoding = false};
}

TEST(AllotTokens, DecodingRowsComeBeforePromptsInOrderOfArrival) {
  const std::vector<Demand> demands = {prompt(100), kDecode, prompt(50), kDecode};
  EXPECT_THAT(allot_tokens(demands, 1000, 0), ElementsAre(100, 1, 50, 1));
  EXPECT_THAT(allot_tokens(demands, 120, 0), ElementsAre(100, 1, 18, 1));
  EXPECT_THAT(allot_tokens(demands, 60, 0), ElementsAre(58, 1, 0, 1));
}

TEST(AllotTokens, KeepsOneTokenForThePromptsWhenDecodingRowsFillTheBudget) {
  const std::vector<Demand> demands = {kDecode, kDecode, kDecode, prompt(9)};
  const std::vector<int32_t> allotted = allot_tokens(demands, 3, 0);
  EXPECT_EQ(allotted[3], 1);
  EXPECT_EQ(std::accumulate(allotted.begin(), allotted.end(), 0), 3);
}

TEST(AllotTokens, NobodyStarvesUnderAnyBudget) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<Demand> demands;
    const int decoding = static_cast<int>(random() % 6);
    const int prompts = static_cast<int>(random() % 4);
    for (int i = 0; i < decoding; ++i) demands.push_back(kDecode);
    for (int i = 0; i < prompts; ++i) demands.push_back(prompt(1 + static_cast<int32_t>(random() % 20)));
    if (demands.empty()) continue;
    std::shuffle(demands.begin(), demands.end(), random);
    const int64_t budget = 1 + random() % 8;

    std::vector<int64_t> served(demands.size());
    for (uint64_t round = 0; round < 4 * demands.size(); ++round) {
      const std::vector<int32_t> allotted = allot_tokens(demands, budget, round);
      int64_t sum = 0;
      for (size_t i = 0; i < demands.size(); ++i) {
        ASSERT_GE(allotted[i], 0);
        ASSERT_LE(allotted[i], demands[i].pending);
        sum += allotted[i];
        served[i] += allotted[i];
      }
      ASSERT_LE(sum, budget);
    }
    bool first_prompt = true;
    for (size_t i = 0; i < demands.size(); ++i) {
      if (demands[i].decoding || first_prompt) {
        ASSERT_GT(served[i], 0) << "row " << i << " of " << demands.size() << " at budget " << budget;
      }
      if (!demands[i].decoding) first_prompt = false;
    }
  }
}

}  // namespace
}  // namespace longspan
