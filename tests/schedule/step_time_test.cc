// How long steps get while rows decode, on machines whose time is computed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "schedule/scheduler.h"

namespace longspan {
namespace {

using Machine = std::function<double(const StepWork&)>;

struct Served {
  std::vector<double> ms;       // of steps with prompt and decoding rows
  std::vector<int64_t> chunks;  // prompt tokens in these
  double idle_ms = 0;           // of a step of decoding rows alone
  int alone_steps = 0;
  double alone_ms = 0, beside_ms = 0;  // a prompt's prefill without and with decoding rows
};

/// Four rows decode, then a prompt of 100,000 tokens comes.
Served serve_long_prompt(const Machine& machine, const SchedulerOptions& options) {
  constexpr int32_t kLong = 100000;
  KvCache kv({.num_pages = 3000, .page_size = options.page_size, .prefix_cache = false});
  Scheduler scheduler(kv, options);
  Served served;
  const auto add = [&](uint64_t id, int32_t prompt, int32_t answer) -> Sequence& {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = id;
    sequence->tokens.assign(prompt, static_cast<int32_t>(id));
    sequence->prompt_len = prompt;
    sequence->max_computed = prompt + answer;
    return scheduler.add(std::move(sequence));
  };
  const auto step = [&] {
    const auto chosen = scheduler.next();
    const double ms = machine(work_of(chosen->batch.rows));
    int64_t prompt_tokens = 0, decoding = 0;
    for (size_t row = 0; row < chosen->sequences.size(); ++row) {
      if (chosen->sequences[row]->decoding())
        ++decoding;
      else
        prompt_tokens += chosen->batch.rows[row].new_tokens;
    }
    scheduler.complete(*chosen);
    for (Sequence* sequence : chosen->sequences)
      if (sequence->pending() == 0) sequence->tokens.push_back(1);
    scheduler.observe(*chosen, ms);
    if (prompt_tokens > 0 && decoding > 0) {
      served.ms.push_back(ms);
      served.chunks.push_back(prompt_tokens);
    }
    return ms;
  };
  Sequence& alone = add(1, kLong, 1);
  for (; !alone.decoding(); ++served.alone_steps) served.alone_ms += step();
  scheduler.remove(alone);
  for (uint64_t id = 2; id <= 5; ++id) add(id, 500, 20000);
  while (scheduler.waiting() > 0 || served.idle_ms == 0) {
    const double ms = step();
    if (served.ms.empty() || scheduler.running() == 4) served.idle_ms = ms;
  }
  for (int i = 0; i < 20; ++i) served.idle_ms = step();
  served.ms.clear();
  served.chunks.clear();
  Sequence& beside = add(6, kLong, 1);
  while (!beside.decoding()) served.beside_ms += step();
  return served;
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

const SchedulerOptions kOptions = {
    .max_running = 8, .max_tokens_per_step = 8192, .page_size = 64, .max_step_ms = 200};

double plain_machine(const StepWork& work) {
  return 5 + 0.1 * work.tokens + work.pairs / 300000;
}

TEST(StepTime, DecodingRowsWaitNoLongerThanAskedForAndChunksAreAsLargeAsThatAllows) {
  const Served served = serve_long_prompt(plain_machine, kOptions);
  EXPECT_EQ(served.alone_steps, 13) << "whole chunks where nobody waits";
  ASSERT_GT(served.ms.size(), 50u);
  EXPECT_LE(*std::max_element(served.ms.begin(), served.ms.end()), 200.01);
  EXPECT_GE(quantile(served.ms, 0.1), 180) << "no smaller than need be";
  EXPECT_GT(served.chunks.front(), 1500);
  EXPECT_LT(served.chunks.back(), served.chunks.front()) << "attention to a longer prefix takes longer";
  EXPECT_LT(served.beside_ms, 1.1 * served.alone_ms);
}

TEST(StepTime, ANoisyMachineStaysWithinItMostOfTheTime) {
  std::mt19937 random(1);
  const Served served = serve_long_prompt(
      [&](const StepWork& work) {
        return plain_machine(work) * (1 + 0.2 * static_cast<double>(random() % 1000) / 1000);
      },
      kOptions);
  EXPECT_LE(quantile(served.ms, 0.99), 200);
  EXPECT_GE(quantile(served.ms, 0.5), 140);
}

TEST(StepTime, WhereRowsAloneAreSlowTwiceTheirTimeIsTheLimit) {
  const Served served =
      serve_long_prompt([](const StepWork& work) { return 150 + 5 * plain_machine(work); }, kOptions);
  EXPECT_GT(served.idle_ms, 150);
  EXPECT_LE(quantile(served.ms, 0.99), 2 * served.idle_ms + 1);
  EXPECT_GE(quantile(served.ms, 0.5), 1.6 * served.idle_ms);
}

TEST(StepTime, OnAMachineTooSlowForAnyChunkPromptsStillComeToAnEnd) {
  SchedulerOptions options = kOptions;
  options.max_step_ms = 1;
  const Served served = serve_long_prompt(
      [](const StepWork& work) { return work.tokens > 4 ? 1000 + work.tokens : 1.0; }, options);
  EXPECT_THAT(served.chunks, testing::Each(testing::Le(16)));
}

TEST(StepTime, WithoutDecodingRowsAndWithoutABoundChunksAreWhole) {
  SchedulerOptions options = kOptions;
  options.max_step_ms = 0;
  const Served served = serve_long_prompt(plain_machine, options);
  EXPECT_EQ(served.chunks.front(), 8192 - 4);
  EXPECT_GT(served.ms.front(), 800);
}

}  // namespace
}  // namespace longspan
