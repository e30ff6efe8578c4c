#include "engine/golden_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace longspan::testing_support {
namespace {

using testing::HasSubstr;

constexpr double kNoRouter = std::numeric_limits<double>::infinity();

GoldenPrompt golden() {
  return {.ids = {4, 5, 6},
          .logprobs = {-1, -2},
          .tokens = {7, 8},
          .token_logprobs = {-0.5, -0.25},
          .margins = {1.0, 0.01},
          .router_margins = {kNoRouter, kNoRouter, kNoRouter, kNoRouter}};
}

Result matching() {
  Result result;
  result.token_ids = {7, 8};
  result.prompt_logprobs = {std::nullopt, -1.0f, -2.0f};
  result.logprobs = {{.token_id = 7, .logprob = -0.5f, .top = {}},
                     {.token_id = 8, .logprob = -0.25f, .top = {}}};
  return result;
}

constexpr GoldenBound kBound{.logprob = 1e-3, .router = 1e-3};

std::string problem(const Result& result, const GoldenPrompt& prompt = golden(), GoldenBound bound = kBound) {
  return compare_to_golden(prompt, result, bound).problem;
}

TEST(GoldenCheck, AcceptsWhatMatches) {
  const GoldenFinding finding = compare_to_golden(golden(), matching(), kBound);
  EXPECT_EQ(finding.problem, "");
  EXPECT_EQ(finding.compared, 4);
  EXPECT_EQ(finding.worst, 0);
}

TEST(GoldenCheck, NoticesEveryDifference) {
  Result result = matching();
  result.prompt_logprobs[2] = -2.0011f;
  EXPECT_THAT(problem(result), HasSubstr("after position 1 is -2.0011"));
  result = matching();
  result.prompt_logprobs[1] = NAN;
  EXPECT_THAT(problem(result), HasSubstr("after position 0"));
  result = matching();
  result.prompt_logprobs[1].reset();
  EXPECT_THAT(problem(result), HasSubstr("after position 0"));
  result = matching();
  result.prompt_logprobs.pop_back();
  EXPECT_THAT(problem(result), HasSubstr("2 prompt log-probabilities"));
  result = matching();
  result.logprobs[1].logprob = -0.2f;
  EXPECT_THAT(problem(result), HasSubstr("after position 3"));
  result = matching();
  result.token_ids[0] = 9;
  EXPECT_THAT(problem(result), HasSubstr("token 0 is 9, expected 7"));
  result = matching();
  result.token_ids[1] = 9;
  EXPECT_THAT(problem(result), HasSubstr("token 1 is 9"));
  result = matching();
  result.token_ids.pop_back();
  EXPECT_THAT(problem(result), HasSubstr("token 1 is -1"));
  result = matching();
  result.token_ids.push_back(1);
  EXPECT_THAT(problem(result), HasSubstr("3 tokens, expected 2"));
  result = matching();
  result.error_code = ErrorCode::kCapacity;
  result.error_message = "too small";
  EXPECT_EQ(problem(result), "too small");
}

TEST(GoldenCheck, AnUndecidedTokenMayDiffer) {
  Result result = matching();
  result.token_ids[1] = 9;
  const GoldenBound wide{.logprob = 0.006, .router = 0};
  EXPECT_EQ(problem(result, golden(), wide), "") << "margin 0.01 < 2 * 0.006";
  result.token_ids[0] = 9;
  EXPECT_THAT(problem(result, golden(), wide), HasSubstr("token 0"));
}

TEST(GoldenCheck, AfterAnUndecidedRouteNothingIsAsked) {
  GoldenPrompt prompt = golden();
  prompt.router_margins = {1, 0.0015, 0.0015, 0.0015};
  Result result = matching();
  result.prompt_logprobs[2] = -5.0f;
  result.token_ids[0] = 1;
  EXPECT_EQ(problem(result, prompt), "");
  EXPECT_GT(compare_to_golden(prompt, result, kBound).sum, 2) << "but it counts towards the mean";
  result.prompt_logprobs[1] = -1.1f;
  EXPECT_THAT(problem(result, prompt), HasSubstr("after position 0"));
  result = matching();
  result.prompt_logprobs[2] = NAN;
  EXPECT_THAT(problem(result, prompt), HasSubstr("after position 1"));
}

}  // namespace
}  // namespace longspan::testing_support
