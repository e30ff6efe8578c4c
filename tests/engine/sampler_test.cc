#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace longspan {
namespace {

TEST(Sample, GreedyTiesGoToTheLowestId) {
  const std::vector<float> logits = {1, 3, 3, 2};
  EXPECT_EQ(sample(logits, {}, 0), 1);
}

std::map<int32_t, int> draw(const std::vector<float>& logits, const SamplingParams& params, int draws) {
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sample(logits, params, i)];
  return counts;
}

TEST(Sample, FrequenciesFollowTheTemperedSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    constexpr int kDraws = 20000;
    auto counts = draw(logits, {.temperature = temperature, .seed = 11}, kDraws);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit / temperature);
    for (int32_t id = 0; id < 4; ++id) {
      const double p = std::exp(logits[id] / temperature) / sum;
      const double sigma = std::sqrt(kDraws * p * (1 - p));
      EXPECT_NEAR(counts[id], kDraws * p, 5 * sigma) << "id " << id << " at temperature " << temperature;
    }
  }
}

TEST(Sample, TopKAndTopPLeaveOnlyTheMostLikely) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)};
  using testing::ElementsAre;
  using testing::Key;
  EXPECT_THAT(draw(logits, {.temperature = 1, .top_k = 2}, 2000), ElementsAre(Key(1), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 1, .top_p = 0.4f}, 2000), ElementsAre(Key(1)));
  EXPECT_THAT(draw(logits, {.temperature = 1, .top_p = 0.8f}, 2000), ElementsAre(Key(1), Key(2), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 1, .top_p = 0.7f, .top_k = 3}, 2000), ElementsAre(Key(1), Key(3)));
}

TEST(Sample, DependsOnSeedAndPositionOnly) {
  std::vector<float> logits(1000, 0.0f);
  const SamplingParams params{.temperature = 1, .seed = 5};
  EXPECT_EQ(sample(logits, params, 17), sample(logits, params, 17));
  int other_seed = 0, other_position = 0;
  for (int i = 0; i < 50; ++i) {
    const int32_t token = sample(logits, params, i);
    other_seed += token == sample(logits, {.temperature = 1, .seed = 6}, i);
    other_position += token == sample(logits, params, i + 1000);
  }
  EXPECT_LT(other_seed, 3);
  EXPECT_LT(other_position, 3);
}

TEST(TokenLogprob, IsTheLogSoftmaxWithAlternativesInOrder) {
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  const TokenLogprob result = token_logprob(logits, 0, 2);
  EXPECT_NEAR(result.logprob, std::log(0.2), 1e-6);
  ASSERT_EQ(result.top.size(), 2u);
  EXPECT_EQ(result.top[0].first, 1);
  EXPECT_NEAR(result.top[1].second, std::log(0.3), 1e-6);
  EXPECT_EQ(token_logprob(logits, 0, 9).top.size(), 3u);
}

}  // namespace
}  // namespace longspan
