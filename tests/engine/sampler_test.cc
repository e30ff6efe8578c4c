#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

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

TEST(Sample, MinPLeavesWhatIsNotFarLessLikelyThanTheLikeliest) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)};
  using testing::ElementsAre;
  using testing::Key;
  // At temperature 1 the shares of the likeliest are 0.2, 1, 0.3, 0.5; at 2 their roots.
  EXPECT_THAT(draw(logits, {.temperature = 1, .min_p = 0.4f}, 2000), ElementsAre(Key(1), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 1, .min_p = 0.25f}, 2000), ElementsAre(Key(1), Key(2), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 2, .min_p = 0.4f}, 2000),
              ElementsAre(Key(0), Key(1), Key(2), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 2, .min_p = 0.6f}, 2000), ElementsAre(Key(1), Key(3)));
  EXPECT_THAT(draw(logits, {.temperature = 1, .min_p = 1}, 2000), ElementsAre(Key(1)));
}

// The definitions, one token at a time.
float adjusted_plainly(float logit, int32_t id, const SamplingParams& params,
                       const std::vector<int32_t>& tokens, size_t prompt_len) {
  const auto count = [&](size_t from) {
    return std::count(tokens.begin() + static_cast<ptrdiff_t>(from), tokens.end(), id);
  };
  if (count(0) > 0) logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  const auto in_answer = static_cast<float>(count(prompt_len));
  logit -= in_answer * params.frequency_penalty;
  if (in_answer > 0) logit -= params.presence_penalty;
  for (const auto& [biased, bias] : params.logit_bias) {
    if (biased == id) logit += bias;
  }
  return logit;
}

TEST(AdjustedLogits, AreWhatTheirDefinitionsSay) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> number(-2, 2);
  constexpr int32_t kVocab = 50;
  for (int round = 0; round < 500; ++round) {
    std::vector<float> logits;
    for (int32_t id = 0; id < kVocab; ++id) logits.push_back(4 * number(random));
    std::vector<int32_t> tokens(random() % 60);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
    const size_t prompt_len = random() % (tokens.size() + 1);
    SamplingParams params;
    if (random() % 2) params.repetition_penalty = std::exp(number(random));
    if (random() % 2) params.presence_penalty = number(random);
    if (random() % 2) params.frequency_penalty = number(random);
    for (size_t i = random() % 4; i > 0; --i)
      params.logit_bias.emplace_back(static_cast<int32_t>(random() % kVocab), 50 * number(random));
    std::vector<float> scratch;
    const auto got = adjusted_logits(logits, params, tokens, static_cast<int64_t>(prompt_len), scratch);
    ASSERT_EQ(got.size(), logits.size());
    for (int32_t id = 0; id < kVocab; ++id) {
      const float wanted = adjusted_plainly(logits[id], id, params, tokens, prompt_len);
      // Sums of up to 60 terms below 128 in another order.
      EXPECT_NEAR(got[id], wanted, 60 * 128 * 6e-8f) << "round " << round << " id " << id;
    }
  }
}

TEST(AdjustedLogits, AreTheSameOnesWhereNothingIsAskedFor) {
  const std::vector<float> logits = {1, 2};
  std::vector<float> scratch;
  EXPECT_EQ(adjusted_logits(logits, {}, std::vector<int32_t>{0, 1}, 1, scratch).data(), logits.data());
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
