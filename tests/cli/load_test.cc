#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "cli/load_plan.h"
#include "cli/load_run.h"
#include "cli/load_stats.h"
#include "cli/options.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

std::string refusal(const std::vector<std::string>& args) {
  try {
    parse_command_line(args);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(LoadPlan, ReadsAMix) {
  EXPECT_THAT(parse_mix("--mix", "gsm8k=3,4096=1,17"),
              ElementsAre(LoadKind{0, 3}, LoadKind{4096, 1}, LoadKind{17, 1}));
  EXPECT_THAT(parse_mix("--mix", "gsm8k"), ElementsAre(LoadKind{}));
  for (const char* bad : {"", "gsm8k,", "book=1", "=1", "gsm8k=", "gsm8k=0", "-5", "0", "4096=x"})
    EXPECT_THROW(parse_mix("--mix", bad), Error) << bad;
  EXPECT_EQ(LoadKind{}.name(), "gsm8k");
  EXPECT_EQ((LoadKind{4096, 1}).name(), "4096 tokens");
}

// The gaps of a Poisson process are exponential: by the law of large numbers their mean and deviation are 1 /
// rate (20,000 of them: a standard error of 0.7 %), and a share of exp(-1) is longer than that.
TEST(LoadPlan, ArrivalsAreAPoissonProcess) {
  std::mt19937_64 random(7);
  const double rate = 4;
  const std::vector<double> arrivals = poisson_arrivals(20'000, rate, random);
  ASSERT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  EXPECT_GT(arrivals.front(), 0);
  std::vector<double> gaps(arrivals.size());
  std::adjacent_difference(arrivals.begin(), arrivals.end(), gaps.begin());
  const auto n = static_cast<double>(gaps.size());
  const double mean = arrivals.back() / n;
  double square = 0;
  for (const double gap : gaps) square += (gap - mean) * (gap - mean);
  EXPECT_NEAR(mean * rate, 1, 0.03);
  EXPECT_NEAR(std::sqrt(square / n) * rate, 1, 0.05);
  const auto longer = std::count_if(gaps.begin(), gaps.end(), [&](double gap) { return gap > 1 / rate; });
  EXPECT_NEAR(static_cast<double>(longer) / n, std::exp(-1), 0.015);

  std::mt19937_64 same(7), other(8);
  EXPECT_EQ(poisson_arrivals(20'000, rate, same), arrivals);
  EXPECT_NE(poisson_arrivals(20'000, rate, other), arrivals);
}

TEST(LoadPlan, KindsComeByTheirWeights) {
  std::mt19937_64 random(1);
  const std::vector<size_t> kinds = draw_kinds(8000, {{0, 5}, {100, 2}, {200, 1}}, random);
  std::vector<double> shares(3);
  for (const size_t kind : kinds) shares.at(kind) += 1.0 / 8000;
  EXPECT_NEAR(shares[0], 5.0 / 8, 0.03);
  EXPECT_NEAR(shares[1], 2.0 / 8, 0.03);
  EXPECT_NEAR(shares[2], 1.0 / 8, 0.03);
}

TEST(LoadStats, PercentilesAreByNearestRank) {
  std::vector<double> values(200);
  std::iota(values.rbegin(), values.rend(), 1.0);  // 200 .. 1
  const Percentiles p = percentiles_of(values);
  EXPECT_EQ(p.count, 200u);
  EXPECT_DOUBLE_EQ(p.mean, 100.5);
  EXPECT_EQ(p.p50, 100);
  EXPECT_EQ(p.p90, 180);
  EXPECT_EQ(p.p99, 198);
  EXPECT_EQ(p.most, 200);
  const Percentiles one = percentiles_of({3});
  EXPECT_EQ(one.p50, 3);
  EXPECT_EQ(one.p99, 3);
  EXPECT_EQ(percentiles_of({}).count, 0u);
  EXPECT_EQ(percentiles_of({1, 2}).p50, 1);
  EXPECT_EQ(percentiles_of({1, 2, 3}).p50, 2);
  EXPECT_EQ(percentiles_of({1, 2, 3}).p90, 3);
}

LoadSample answered(double due, double first, std::vector<double> gaps) {
  LoadSample sample;
  sample.due = sample.sent = due;
  sample.first = first;
  sample.end = first + std::accumulate(gaps.begin(), gaps.end(), 0.0);
  sample.gaps = std::move(gaps);
  sample.prompt_tokens = 10;
  sample.new_tokens = 2;
  return sample;
}

TEST(LoadStats, AGoodAnswerKeepsWithinAllLimits) {
  const LoadSample sample = answered(1, 1.5, {0.01, 0.03});  // 500 ms, 20 ms in the mean, 540 ms
  EXPECT_TRUE(is_good(sample, {}));
  EXPECT_TRUE(is_good(sample, {.ttft_ms = 501, .token_ms = 20.1, .e2e_ms = 541}));
  EXPECT_FALSE(is_good(sample, {.ttft_ms = 499}));
  EXPECT_FALSE(is_good(sample, {.token_ms = 19}));
  EXPECT_FALSE(is_good(sample, {.e2e_ms = 539}));
  LoadSample failed = sample;
  failed.failure = "status 429";
  EXPECT_FALSE(is_good(failed, {}));
  LoadSample short_one = answered(0, 0.1, {});
  EXPECT_TRUE(is_good(short_one, {.token_ms = 1}));
}

TEST(LoadStats, FailedRequestsCountAgainstTheGoodputAndNotForLatency) {
  std::vector<LoadSample> samples = {answered(0, 0.1, {0.02}), answered(1, 1.3, {0.04, 0.06})};
  samples[1].sent = 1.2;
  samples[1].cached_tokens = 4;
  for (const char* reason : {"status 429", "Connection refused", "status 429"}) {
    LoadSample failed;
    failed.end = 1000;
    failed.failure = reason;
    samples.push_back(failed);
  }
  const LoadSummary s = summarize(samples, {.ttft_ms = 200});
  EXPECT_EQ(s.requests, 5);
  EXPECT_EQ(s.answered, 2);
  EXPECT_EQ(s.good, 1);
  EXPECT_THAT(s.failures, ElementsAre(Pair("Connection refused", 1), Pair("status 429", 2)));
  EXPECT_NEAR(s.ttft_ms.most, 300, 1e-9);
  EXPECT_EQ(s.token_ms.count, 3u);
  EXPECT_NEAR(s.token_ms.p50, 40, 1e-9);
  EXPECT_NEAR(s.e2e_ms.most, 400, 1e-9);
  EXPECT_NEAR(s.late_ms, 200, 1e-9);
  EXPECT_EQ(s.prompt_tokens, 20);
  EXPECT_EQ(s.cached_tokens, 4);
  EXPECT_EQ(s.new_tokens, 4);
}

// The fourth look at the clock is the client's.
TEST(LoadRun, ARequestThatAnyExceptionEndsCountsAsFailed) {
  std::atomic<int> looks{0};
  LoadRun run(std::vector<Request>(1), {0}, "m", [&looks] {
    if (++looks == 4) throw std::runtime_error("no clock");
    return static_cast<double>(looks);
  });
  const auto connect = [] {
    return std::make_unique<server::HttpClient>(server::HttpUrl{"127.0.0.1", "1", "/v1"}, "", 5);
  };
  EXPECT_TRUE(run.run(
      connect, 4, [] { return false; }, [](size_t) {}));
  EXPECT_EQ(run.samples()[0].failure, "no clock");
}

TEST(BenchServe, ReadsItsFlags) {
  const CommandLine line = parse_command_line({"bench-serve", "--mix", "gsm8k=2,512=1", "-m", "M", "--rate",
                                               "0", "--slo-ttft", "500", "--requests", "7", "--seed", "3"});
  const auto& options = std::get<BenchServeOptions>(line.command);
  EXPECT_THAT(options.mix, ElementsAre(LoadKind{0, 2}, LoadKind{512, 1}));
  EXPECT_EQ(options.rate, 0);
  EXPECT_EQ(options.limits.ttft_ms, 500);
  EXPECT_EQ(options.requests, 7);
  EXPECT_EQ(std::get<BenchServeOptions>(parse_command_line({"bench-serve"}).command).mix.size(), 1u);
  EXPECT_THAT(refusal({"bench-serve", "--mix", "512"}), HasSubstr("-m is missing"));
  EXPECT_THAT(refusal({"bench-serve", "--rate", "-1"}), HasSubstr("--rate -1: must be a number >= 0"));
}

}  // namespace
}  // namespace longspan::cli
