// What --dtype int8 may cost, on the model in the box; and that cp costs nothing beyond it.

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "support/sanitizers.h"

namespace longspan {
namespace {

constexpr char kModel[] = LONGSPAN_SOURCE_DIR "/models/recall-moe";
constexpr bool kSlow = testing_support::kThreadSanitizer || testing_support::kAddressSanitizer;
constexpr size_t kTextBytes = kSlow ? 800 : 12000;  // of the document, some 3,000 tokens

// Bounds in nats: of the mean log-probability, 2 % of the perplexity, and of the mean distance of a token's.
constexpr double kMeanShift = 0.02, kMeanDistance = 0.12;

std::string read(const char* name) {
  std::ifstream file(std::string(kModel) + "/demo/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::unique_ptr<Engine> open(ComputeType dtype, int32_t cp = 1, bool share_kv = true) {
  EngineOptions options;
  options.model = kModel;
  options.dtype = dtype;
  options.layout.cp = cp;
  options.min_tokens_per_rank = 0;
  options.share_kv = share_kv;
  options.max_total_tokens = 16384;
  if (testing_support::kThreadSanitizer) options.threads = 1;  // it does not see libgomp's barriers
  return Engine::open(options);
}

std::vector<float> text_logprobs(Engine& engine) {
  Request request;
  request.prompt = read("document.txt").substr(0, kTextBytes);
  request.sampling = {.max_tokens = 0, .prompt_logprobs = true};
  std::vector<float> logprobs;
  for (const std::optional<float>& logprob : engine.generate(std::move(request)).prompt_logprobs)
    if (logprob) logprobs.push_back(*logprob);
  return logprobs;
}

TEST(Int8Quality, LogProbabilitiesOfUnseenText) {
  if (kSlow) GTEST_SKIP() << "the bounds are those of a longer text";
  const std::vector<float> exact = text_logprobs(*open(ComputeType::kF32));
  const std::vector<float> int8 = text_logprobs(*open(ComputeType::kInt8));
  ASSERT_GT(exact.size(), 2500u);
  ASSERT_EQ(exact.size(), int8.size());
  double shift = 0, distance = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    shift += int8[i] - exact[i];
    distance += std::abs(int8[i] - exact[i]);
  }
  const auto n = static_cast<double>(exact.size());
  EXPECT_LE(std::abs(shift) / n, kMeanShift);
  EXPECT_LE(distance / n, kMeanDistance);
  EXPECT_GT(distance, 0) << "nothing was quantised";
  RecordProperty("mean_shift", std::to_string(shift / n));
  RecordProperty("mean_distance", std::to_string(distance / n));
}

// Sums of quantised products are exact integers, and a row's experts are local: not a bit depends on the cut.
TEST(Int8Quality, TheSameBitsAtEveryCp) {
  const std::vector<float> one = text_logprobs(*open(ComputeType::kInt8));
  for (const int32_t cp : {2, 3, 4}) {
    EXPECT_EQ(one, text_logprobs(*open(ComputeType::kInt8, cp))) << "cp " << cp;
    EXPECT_EQ(one, text_logprobs(*open(ComputeType::kInt8, cp, false))) << "cp " << cp << ", gathered";
  }
}

TEST(Int8Quality, FindsEveryFactOfTheLongDocument) {
  if (kSlow) GTEST_SKIP() << "a long document under a sanitizer";
  const auto engine = open(ComputeType::kInt8);
  const std::string document = read("document.txt");
  std::istringstream lines(read("questions.txt"));
  int questions = 0;
  for (std::string line; std::getline(lines, line); ++questions) {
    const size_t tab = line.find('\t');
    Request request;
    request.prompt = std::vector<Message>{{"user", document + "\n\nQuestion: " + line.substr(0, tab)}};
    request.sampling.max_tokens = 40;
    EXPECT_EQ(engine->generate(std::move(request)).text, line.substr(tab + 1));
  }
  EXPECT_EQ(questions, 8);
}

}  // namespace
}  // namespace longspan
