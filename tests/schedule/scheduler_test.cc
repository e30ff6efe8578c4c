#include "schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>

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
            (std::vector<BatchRow>{{.new_tokens = 4, .prefix_len = 8}, {.new_tokens = 12}}));
}

// Random arrivals, lengths and removals: every sequence is computed exactly once, in order, within the
// budget, in slots of its own, and all pages come back.
TEST(Scheduler, RandomTrafficLosesNothing) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const auto page_size = static_cast<int32_t>(1 + random() % 9);
    const auto budget = static_cast<int64_t>(1 + random() % 40);
    const int32_t owners = 1 + trial % 3;
    KvCache kv({.num_pages = 1 + 120 / page_size / owners + 1,
                .owners = owners,
                .page_size = page_size,
                .prefix_cache = trial % 2 == 0});
    Scheduler scheduler(kv, {.max_running = 5, .max_tokens_per_step = budget, .page_size = page_size});
    std::set<Sequence*> open;
    uint64_t arrived = 0, finished = 0;
    for (int tick = 0; tick < 100000 && (arrived < 40 || !open.empty()); ++tick) {
      if (arrived < 40 && random() % 3 == 0) {
        const auto prompt_len = static_cast<int32_t>(1 + random() % 60);
        open.insert(
            &scheduler.add(make_sequence(++arrived, prompt_len, static_cast<int32_t>(random() % 20))));
      }
      const auto step = scheduler.next();
      if (!step) continue;
      ASSERT_LE(std::ssize(step->batch.token_ids), budget);
      ASSERT_EQ(step->batch.page_owner.empty(), owners == 1);
      std::set<std::pair<int32_t, int32_t>> written;  // owner and slot
      size_t token = 0;
      for (size_t row = 0; row < step->sequences.size(); ++row) {
        const Sequence& sequence = *step->sequences[row];
        ASSERT_EQ(step->batch.rows[row].prefix_len, sequence.computed);
        for (int32_t i = 0; i < step->batch.rows[row].new_tokens; ++i) {
          ASSERT_EQ(step->batch.token_ids[token++], sequence.tokens[sequence.computed + i]);
          const int32_t slot = step->batch.slot(static_cast<int32_t>(row), sequence.computed + i);
          ASSERT_GE(slot, page_size) << "page 0 is nobody's";
          const int32_t owner =
              owners == 1 ? 0 : step->batch.owner(static_cast<int32_t>(row), sequence.computed + i);
          ASSERT_TRUE(owner >= 0 && owner < owners);
          ASSERT_TRUE(written.emplace(owner, slot).second) << "two rows in one slot";
        }
      }
      scheduler.complete(*step);
      scheduler.check_integrity();
      for (Sequence* sequence : step->sequences) {
        if (sequence->computed < std::ssize(sequence->tokens)) continue;
        if (sequence->computed < sequence->max_computed && random() % 10 != 0) {
          sequence->tokens.push_back(static_cast<int32_t>(random() % 50));
          continue;
        }
        open.erase(sequence);
        scheduler.remove(*sequence);
        ++finished;
      }
    }
    EXPECT_EQ(finished, 40u);
    scheduler.check_integrity();
    EXPECT_EQ(kv.used_pages(), 0);
  }
}

}  // namespace
}  // namespace longspan
