#include "schedule/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace longspan {
namespace {

using testing::ElementsAre;

constexpr Demand kDecode{.pending = 1, .decoding = true};
const std::vector<int64_t> kOneTenant = {0};

Demand prompt(int32_t pending, int64_t arrived = 0, int32_t tenant = 0) {
  return {.pending = pending, .decoding = false, .tenant = tenant, .due = due_at(arrived, pending)};
}

TEST(AllotTokens, DecodingRowsComeBeforePromptsAndShortPromptsBeforeLongOnes) {
  const std::vector<Demand> demands = {prompt(100), kDecode, prompt(50), kDecode};
  EXPECT_THAT(allot_tokens(demands, kOneTenant, 1000, 0), ElementsAre(100, 1, 50, 1));
  EXPECT_THAT(allot_tokens(demands, kOneTenant, 120, 0), ElementsAre(68, 1, 50, 1));
  EXPECT_THAT(allot_tokens(demands, kOneTenant, 40, 0), ElementsAre(0, 1, 38, 1));
}

TEST(AllotTokens, AShortPromptPassesALongOneUntilThatHasAged) {
  const std::vector<Demand> soon = {prompt(1000), prompt(10, 989)};
  EXPECT_THAT(allot_tokens(soon, kOneTenant, 500, 0), ElementsAre(490, 10));
  const std::vector<Demand> later = {prompt(1000), prompt(10, 991)};
  EXPECT_THAT(allot_tokens(later, kOneTenant, 500, 0), ElementsAre(500, 0));
  const std::vector<Demand> alike = {prompt(100), prompt(100)};
  EXPECT_THAT(allot_tokens(alike, kOneTenant, 60, 0), ElementsAre(60, 0)) << "first come";
}

TEST(AllotTokens, KeepsOneTokenForThePromptsWhenDecodingRowsFillTheBudget) {
  const std::vector<Demand> demands = {kDecode, kDecode, kDecode, prompt(9)};
  const std::vector<int32_t> allotted = allot_tokens(demands, kOneTenant, 3, 0);
  EXPECT_EQ(allotted[3], 1);
  EXPECT_EQ(std::accumulate(allotted.begin(), allotted.end(), 0), 3);
}

TEST(AllotTokens, TenantsShareAStepEvenly) {
  const std::vector<Demand> demands = {prompt(9000, 0, 0), prompt(8000, 0, 0), prompt(9000, 500, 1)};
  EXPECT_THAT(allot_tokens(demands, std::vector<int64_t>{0, 0}, 8192, 0), ElementsAre(0, 4096, 4096));
  EXPECT_THAT(allot_tokens(demands, std::vector<int64_t>{1000, 0}, 8192, 0), ElementsAre(0, 3608, 4584))
      << "who got less catches up first";
  EXPECT_THAT(allot_tokens(demands, std::vector<int64_t>{20000, 0}, 8192, 0), ElementsAre(0, 0, 8192));
  const std::vector<Demand> small = {prompt(9000, 0, 0), prompt(30, 500, 1)};
  EXPECT_THAT(allot_tokens(small, std::vector<int64_t>{0, 0}, 8192, 0), ElementsAre(8162, 30))
      << "nothing is left lying";
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
      const std::vector<int32_t> allotted = allot_tokens(demands, kOneTenant, budget, round);
      int64_t sum = 0;
      for (size_t i = 0; i < demands.size(); ++i) {
        ASSERT_GE(allotted[i], 0);
        ASSERT_LE(allotted[i], demands[i].pending);
        sum += allotted[i];
        served[i] += allotted[i];
      }
      ASSERT_LE(sum, budget);
    }
    const auto first_due = std::min_element(demands.begin(), demands.end(), [](const auto& a, const auto& b) {
      return std::pair(a.decoding, a.due) < std::pair(b.decoding, b.due);
    });
    for (size_t i = 0; i < demands.size(); ++i) {
      if (demands[i].decoding || i == static_cast<size_t>(first_due - demands.begin())) {
        ASSERT_GT(served[i], 0) << "row " << i << " of " << demands.size() << " at budget " << budget;
      }
    }
  }
}

TEST(LargestThatFits, IsFoundWhereverTheLimitIs) {
  for (int64_t limit = -3; limit < 30; ++limit) {
    const auto fits = [&](int64_t budget) { return budget <= limit; };
    EXPECT_EQ(largest_that_fits(4, 20, fits), std::clamp<int64_t>(limit, 4, 20)) << limit;
    EXPECT_EQ(largest_that_fits(4, 2, fits), 4) << limit;
  }
}

TEST(NextAdmission, FewestRunningThenLeastServedThenDueFirst) {
  const std::vector<Candidate> waiting = {
      {.tenant = 0, .due = 5}, {.tenant = 1, .due = 90}, {.tenant = 1, .due = 80}};
  const auto chosen = [&](TenantLoad a, TenantLoad b) {
    return next_admission(waiting, std::vector<TenantLoad>{a, b});
  };
  EXPECT_EQ(chosen({.served = 0, .running = 1}, {.served = 700, .running = 0}), 2u);
  EXPECT_EQ(chosen({.served = 10, .running = 1}, {.served = 9, .running = 1}), 2u);
  EXPECT_EQ(chosen({.served = 9, .running = 1}, {.served = 9, .running = 1}), 0u);
}

// Thousands of prompts, most of them short, come at random: each is computed, and what came later than its
// own length never went before it.
TEST(Policy, NobodyIsPassedByWhatComesLaterThanItsOwnLength) {
  struct Prompt {
    int64_t arrived;
    int32_t length, left;
    int64_t overtaken = 0;  // tokens of prompts that came later, computed before its end
  };
  for (const uint32_t seed : {1u, 2u, 3u}) {
    std::mt19937 random(seed);
    std::vector<Prompt> prompts;
    std::vector<size_t> open;
    int64_t computed = 0, done = 0;
    while (done < 3000) {
      while (std::ssize(prompts) < 3000 && random() % 3 != 0) {
        const auto length =
            static_cast<int32_t>(random() % 50 == 0 ? 1 + random() % 5000 : 1 + random() % 60);
        open.push_back(prompts.size());
        prompts.push_back({.arrived = computed, .length = length, .left = length});
      }
      if (open.empty()) continue;
      std::vector<Demand> demands;
      for (const size_t i : open) demands.push_back(prompt(prompts[i].left, prompts[i].arrived));
      const std::vector<int32_t> allotted = allot_tokens(demands, kOneTenant, 128, 0);
      for (size_t at = 0; at < open.size(); ++at) {
        if (allotted[at] == 0) continue;
        Prompt& served = prompts[open[at]];
        for (size_t other = 0; other < at; ++other) {
          Prompt& passed = prompts[open[other]];
          if (allotted[other] == demands[other].pending) continue;  // ends in this step, too
          passed.overtaken += allotted[at];
          ASSERT_LE(served.arrived, passed.arrived + passed.length) << "came too late to go before it";
        }
        served.left -= allotted[at];
        computed += allotted[at];
      }
      done += std::erase_if(open, [&](size_t i) { return prompts[i].left == 0; });
    }
    EXPECT_TRUE(open.empty());
    EXPECT_TRUE(std::any_of(prompts.begin(), prompts.end(), [](const Prompt& p) { return p.overtaken > 0; }));
  }
}

}  // namespace
}  // namespace longspan
