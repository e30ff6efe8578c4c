#include "schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "schedule/traffic.h"

namespace longspan {
namespace {

std::unique_ptr<Sequence> make_sequence(uint64_t id, int32_t prompt_len, int32_t new_tokens,
                                        int32_t first_token = 0) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  for (int32_t i = 0; i < prompt_len; ++i) sequence->tokens.push_back(first_token + i);
  sequence->prompt_len = prompt_len;
  sequence->max_computed = prompt_len + std::max(new_tokens - 1, 0);
  return sequence;
}

TEST(Scheduler, CutsAPromptIntoChunksAndThenDecodes) {
  KvCache kv({.num_pages = 11, .page_size = 4, .prefix_cache = true});
  Scheduler scheduler(kv, {.max_running = 4, .max_tokens_per_step = 6, .page_size = 4});
  Sequence& sequence = scheduler.add(make_sequence(1, 10, 3, 100));

  auto step = scheduler.next();
  ASSERT_TRUE(step);
  EXPECT_EQ(step->batch.rows, (std::vector<BatchRow>{{.new_tokens = 6, .prefix_len = 0}}));
  EXPECT_THAT(step->batch.token_ids, testing::ElementsAre(100, 101, 102, 103, 104, 105));
  EXPECT_FALSE(step->reaches_end(0));
  scheduler.complete(*step);

  step = scheduler.next();
  EXPECT_EQ(step->batch.rows, (std::vector<BatchRow>{{.new_tokens = 4, .prefix_len = 6}}));
  EXPECT_TRUE(step->reaches_end(0));
  scheduler.complete(*step);

  sequence.tokens.push_back(7);
  step = scheduler.next();
  EXPECT_EQ(step->batch.rows, (std::vector<BatchRow>{{.new_tokens = 1, .prefix_len = 10}}));
  EXPECT_THAT(step->batch.token_ids, testing::ElementsAre(7));
  scheduler.complete(*step);
  scheduler.check_integrity();
  scheduler.remove(sequence);
  EXPECT_FALSE(scheduler.next());
}

TEST(Scheduler, ForeseesChunksDecodingRowsAndTheirEnd) {
  KvCache kv({.num_pages = 30, .page_size = 4});
  Scheduler scheduler(kv, {.max_running = 4, .max_tokens_per_step = 6, .page_size = 4});
  scheduler.add(make_sequence(1, 10, 3, 100));
  Sequence& longer = scheduler.add(make_sequence(2, 11, 9, 200));
  std::vector<std::vector<BatchRow>> expected;
  for (int i = 0; i < 4; ++i) {
    const auto step = scheduler.next();
    EXPECT_TRUE(i == 0 || step->batch.rows == expected.back()) << i;
    expected.push_back(step->batch.next.rows);
    std::vector<Sequence*> ended;
    for (size_t row = 0; row < step->sequences.size(); ++row)
      if (step->reaches_end(row)) ended.push_back(step->sequences[row]);
    scheduler.complete(*step);
    for (Sequence* sequence : ended) sequence->tokens.push_back(7);
  }
  EXPECT_EQ(expected, (std::vector<std::vector<BatchRow>>{
                          {{.new_tokens = 4, .prefix_len = 6}, {.new_tokens = 2, .prefix_len = 0}},
                          {{.new_tokens = 1, .prefix_len = 10}, {.new_tokens = 5, .prefix_len = 2}},
                          {{.new_tokens = 1, .prefix_len = 11}, {.new_tokens = 4, .prefix_len = 7}},
                          {{.new_tokens = 1, .prefix_len = 11}}}))
      << "the first has its three tokens after the fourth step";
  EXPECT_EQ(longer.computed, 11);
}

// Rows get the pages they grow into a step ahead, so that the block table is as foreseen, too.
TEST(Scheduler, ForeseesPages) {
  for (const int32_t owners : {1, 3}) {
    KvCache kv({.num_pages = 30 / owners, .owners = owners, .page_size = 4});
    Scheduler scheduler(kv, {.max_running = 4, .max_tokens_per_step = 6, .page_size = 4});
    for (const int32_t length : {10, 11, 3}) scheduler.add(make_sequence(length, length, 9, 100 * length));
    BatchLayout expected;
    int steps = 0;
    for (;; ++steps) {
      const auto step = scheduler.next();
      if (!step) break;
      EXPECT_TRUE(steps == 0 || expected == step->batch) << "step " << steps;
      expected = step->batch.next;
      EXPECT_EQ(expected.page_owner.empty(), owners == 1 || expected.rows.empty());
      std::vector<Sequence*> ended;
      for (size_t row = 0; row < step->sequences.size(); ++row)
        if (step->reaches_end(row)) ended.push_back(step->sequences[row]);
      scheduler.complete(*step);
      scheduler.check_integrity();
      for (Sequence* sequence : ended) {
        if (sequence->computed == sequence->max_computed)
          scheduler.remove(*sequence);
        else
          sequence->tokens.push_back(7);
      }
    }
    EXPECT_GT(steps, 10);
    EXPECT_THAT(expected.rows, testing::IsEmpty());
  }
}

TEST(Scheduler, WaitsForPagesAndGoesOnWhenTheyComeBack) {
  KvCache kv({.num_pages = 5, .page_size = 4, .prefix_cache = false});  // 16 tokens
  Scheduler scheduler(kv, {.max_running = 8, .max_tokens_per_step = 100, .page_size = 4});
  Sequence& first = scheduler.add(make_sequence(1, 9, 1));
  scheduler.add(make_sequence(2, 9, 1));
  EXPECT_EQ(scheduler.next()->sequences.size(), 1u);
  EXPECT_EQ(scheduler.waiting(), 1);
  scheduler.remove(first);
  EXPECT_EQ(scheduler.next()->sequences.front()->id, 2u);
}

TEST(Scheduler, ALaterPromptStartsBehindTheSharedPages) {
  KvCache kv({.num_pages = 20, .page_size = 4, .prefix_cache = true});
  Scheduler scheduler(kv, {.max_running = 8, .max_tokens_per_step = 100, .page_size = 4});
  Sequence& first = scheduler.add(make_sequence(1, 10, 1));
  scheduler.complete(*scheduler.next());
  scheduler.remove(first);

  scheduler.add(make_sequence(2, 12, 1));  // same ten tokens, two more
  auto without_reuse = make_sequence(3, 12, 1);
  without_reuse->reuse_prefix = false;
  scheduler.add(std::move(without_reuse));
  const auto step = scheduler.next();
  EXPECT_EQ(step->batch.rows,
            (std::vector<BatchRow>{{.new_tokens = 2, .prefix_len = 10}, {.new_tokens = 12}}));
  ASSERT_EQ(step->batch.copies.size(), 1u) << "two rows of the third page";
  const RowCopy& copy = step->batch.copies[0];
  EXPECT_EQ(copy.tokens, 2);
  EXPECT_EQ(copy.to, step->batch.slot(0, 8));
  EXPECT_NE(copy.from, copy.to);
}

// Whatever comes while a start is being computed waits for it: each token of it is computed once.
TEST(Scheduler, NothingIsComputedTwiceAtOnce) {
  for (const int32_t length : {1000, 1003, 50, 7}) {
    KvCache kv({.num_pages = 2000, .page_size = 64});
    Scheduler scheduler(kv, {.max_running = 16, .max_tokens_per_step = 300, .page_size = 64});
    for (uint64_t id = 1; id <= 8; ++id) scheduler.add(make_sequence(id, length, 1));
    scheduler.add(make_sequence(9, length, 1, 5000));
    auto salted = make_sequence(10, length, 1);
    salted->salt = "mine";
    scheduler.add(std::move(salted));
    int64_t computed = 0;
    for (int steps = 0; scheduler.running() + scheduler.waiting() > 0 && steps < 100; ++steps) {
      const auto step = scheduler.next();
      computed += std::ssize(step->batch.token_ids);
      scheduler.complete(*step);
      scheduler.check_integrity();
      for (Sequence* sequence : step->sequences)
        if (sequence->decoding()) scheduler.remove(*sequence);
    }
    EXPECT_EQ(computed, 3 * length + 7) << "once each, and the last token of each twin";
  }
}

TEST(Scheduler, WhoWaitsForAStartGoesOnAsSoonAsThatIsThere) {
  KvCache kv({.num_pages = 2000, .page_size = 4});
  Scheduler scheduler(kv, {.max_running = 16, .max_tokens_per_step = 20, .page_size = 4});
  Sequence& leader = scheduler.add(make_sequence(1, 100, 1));
  scheduler.complete(*scheduler.next());
  auto sequence = make_sequence(2, 30, 1);
  for (int32_t i = 0; i < 10; ++i) sequence->tokens.push_back(900 + i);
  sequence->prompt_len = sequence->max_computed = 40;
  Sequence& waiting = scheduler.add(std::move(sequence));
  auto step = scheduler.next();
  EXPECT_EQ(step->sequences.size(), 1u) << "30 of its tokens are being computed";
  scheduler.complete(*step);
  step = scheduler.next();
  EXPECT_EQ(waiting.cached_tokens, 30);
  EXPECT_TRUE(waiting.kv && step->sequences.size() == 2);
  scheduler.complete(*step);
  scheduler.remove(waiting);
  // If the one that is waited for goes, the others compute for themselves.
  Sequence& last = scheduler.add(make_sequence(3, 90, 1));
  scheduler.complete(*scheduler.next());
  EXPECT_FALSE(last.kv);
  scheduler.remove(leader);
  step = scheduler.next();
  EXPECT_TRUE(last.kv);
  EXPECT_GE(last.cached_tokens, 60);
}

TEST(Scheduler, AShortPromptPassesALongOne) {
  KvCache kv({.num_pages = 100, .page_size = 4, .prefix_cache = false});
  Scheduler scheduler(kv, {.max_running = 4, .max_tokens_per_step = 20, .page_size = 4});
  scheduler.add(make_sequence(1, 100, 1));
  scheduler.complete(*scheduler.next());
  scheduler.add(make_sequence(2, 5, 1, 500));
  const auto step = scheduler.next();
  EXPECT_EQ(step->batch.rows, (std::vector<BatchRow>{{.new_tokens = 15, .prefix_len = 20},
                                                     {.new_tokens = 5, .prefix_len = 0}}));
}

// One tenant has the batch full of work and a queue behind it; another's request gets the next place, and
// half of what the engine computes until it is done.
TEST(Scheduler, ATenantWithALongQueueHoldsNobodyUp) {
  KvCache kv({.num_pages = 2000, .page_size = 4, .prefix_cache = false});
  Scheduler scheduler(kv, {.max_running = 4, .max_tokens_per_step = 200, .page_size = 4});
  for (uint64_t id = 1; id <= 50; ++id) {
    auto sequence = make_sequence(id, 1000, 1);
    sequence->tenant = "busy";
    scheduler.add(std::move(sequence));
  }
  scheduler.complete(*scheduler.next());
  auto sequence = make_sequence(51, 1000, 1);
  sequence->tenant = "other";
  Sequence& other = scheduler.add(std::move(sequence));
  int steps = 0;
  for (; !other.decoding(); ++steps) {
    ASSERT_LT(steps, 100);
    const auto step = scheduler.next();
    scheduler.complete(*step);
    for (Sequence* done : step->sequences)
      if (done != &other && done->decoding()) scheduler.remove(*done);
  }
  EXPECT_LE(steps, 5 + 10) << "a place within 5 steps, then 100 tokens of each step";
}

/// Computes a step; whoever reached its last token gets another one.
ScheduledStep run_step(Scheduler& scheduler) {
  ScheduledStep step = *scheduler.next();
  scheduler.complete(step);
  for (Sequence* sequence : step.sequences)
    if (sequence->pending() == 0) sequence->tokens.push_back(7);
  scheduler.check_integrity();
  return step;
}

TEST(Scheduler, NothingIsForeseenWherePagesRunShort) {
  KvCache kv({.num_pages = 7, .page_size = 4, .prefix_cache = false});  // 24 tokens
  Scheduler scheduler(kv, {.max_running = 2, .max_tokens_per_step = 100, .page_size = 4});
  scheduler.add(make_sequence(1, 8, 9));
  scheduler.add(make_sequence(2, 4, 9, 50));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(run_step(scheduler).batch.next.rows.size(), 2u) << i;
  EXPECT_THAT(run_step(scheduler).batch.next.rows, testing::IsEmpty()) << "one page for two that grow";
  EXPECT_EQ(run_step(scheduler).preempted, std::vector<uint64_t>{2});
}

TEST(Scheduler, WhoGrowsTakesPagesFromTheYoungest) {
  KvCache kv({.num_pages = 9, .page_size = 4, .prefix_cache = false});  // 32 tokens
  Scheduler scheduler(kv, {.max_running = 8, .max_tokens_per_step = 100, .page_size = 4});
  Sequence& old = scheduler.add(make_sequence(1, 8, 17, 100));
  run_step(scheduler);
  Sequence& young = scheduler.add(make_sequence(2, 4, 20, 200));
  EXPECT_EQ(run_step(scheduler).sequences.size(), 2u);
  std::vector<uint64_t> preempted;
  while (std::ssize(old.tokens) < 24) {
    const ScheduledStep step = run_step(scheduler);
    EXPECT_EQ(step.sequences.front(), &old) << "the oldest goes on in every step";
    preempted.insert(preempted.end(), step.preempted.begin(), step.preempted.end());
  }
  EXPECT_THAT(preempted, testing::ElementsAre(2)) << "it stays away until there is room for all of it";
  EXPECT_EQ(scheduler.waiting(), 1);
  const std::vector<int32_t> known = young.tokens;
  scheduler.remove(old);
  const auto step = scheduler.next();
  EXPECT_EQ(step->batch.token_ids, known) << "prompt and answer at once";
}

TEST(Scheduler, ALongPromptMayBePreemptedInItsMiddle) {
  KvCache kv({.num_pages = 11, .page_size = 4});  // 40 tokens
  Scheduler scheduler(kv, {.max_running = 8, .max_tokens_per_step = 2, .page_size = 4});
  Sequence& old = scheduler.add(make_sequence(1, 4, 30, 100));
  while (!old.decoding()) run_step(scheduler);
  Sequence& young = scheduler.add(make_sequence(2, 24, 1, 200));
  young.reuse_prefix = false;
  run_step(scheduler);
  EXPECT_EQ(young.computed, 1);
  std::vector<uint64_t> preempted;
  while (preempted.empty()) preempted = run_step(scheduler).preempted;
  EXPECT_FALSE(young.kv);
  while (std::ssize(old.tokens) < 34) run_step(scheduler);
  scheduler.remove(old);
  while (!young.decoding()) run_step(scheduler);
  EXPECT_EQ(young.kv->cached_tokens(), 0) << "each of its positions is to be scored";
}

// Thousands of random arrivals: see Traffic for what holds after each step.
TEST(Scheduler, RandomTrafficLosesNothing) {
  int64_t preempted = 0, copies = 0, foreseen = 0, pages_foreseen = 0;
  for (int trial = 0; trial < 24; ++trial) {
    std::mt19937 random(trial);
    const auto page_size = static_cast<int32_t>(1 + random() % 9);
    const int32_t owners = 1 + trial % 3;
    KvCache kv({.num_pages = 1 + 120 / page_size / owners + 1,
                .owners = owners,
                .page_size = page_size,
                .prefix_cache = trial % 2 == 0});
    const SchedulerOptions options{.max_running = 5,
                                   .max_tokens_per_step = static_cast<int64_t>(1 + random() % 40),
                                   .page_size = page_size};
    Scheduler scheduler(kv, options);
    testing_support::Traffic traffic(kv, scheduler, options,
                                     {.seed = static_cast<uint32_t>(trial),
                                      .arrivals = 200,
                                      .tenants = 1 + trial % 4,
                                      .distinct_tokens = trial % 4 == 0 ? 2 : 1000,
                                      .cancelled_percent = trial % 3});
    const testing_support::TrafficEnd end = traffic.run();
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    EXPECT_EQ(end.finished + end.cancelled, 200);
    EXPECT_TRUE(trial % 4 != 0 || end.cached_tokens > 0);
    EXPECT_EQ(kv.used_pages(), 0);
    preempted += end.preempted;
    copies += end.copies;
    foreseen += end.foreseen;
    pages_foreseen += end.pages_foreseen;
  }
  EXPECT_GT(preempted, 100);
  EXPECT_GT(copies, 100);
  EXPECT_GT(foreseen, 100);
  EXPECT_GT(pages_foreseen, foreseen * 9 / 10) << "seldom changes a page for another's";
}

}  // namespace
}  // namespace longspan
