#include "engine/step_orders.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

namespace longspan {
namespace {

void expect_same(const Batch& batch, const StepWants& wants) {
  const StepOrder order = decode_step(encode(batch, wants));
  EXPECT_EQ(static_cast<const BatchLayout&>(order.batch), batch);
  EXPECT_EQ(order.batch.next, batch.next);
  EXPECT_EQ(order.batch.token_ids, batch.token_ids);
  EXPECT_EQ(order.batch.copies, batch.copies);
  EXPECT_EQ(order.wants, wants);
}

TEST(StepOrders, SurviveTheJourney) {
  Batch batch{{.rows = {{.new_tokens = 3, .prefix_len = 0}, {.new_tokens = 1, .prefix_len = 200}},
               .block_table = {4, 0, 5, 6},
               .page_owner = {},
               .max_pages = 2,
               .page_size = 128},
              {7, 8, 9, 40000},
              {},
              {}};
  expect_same(batch, {.logits = {0, 1}, .score_targets = {}});
  expect_same(batch, {.logits = {1, 1}, .score_targets = {8, 9, -1, -1}});
  batch.page_owner = {1, 0, 0, 2};
  batch.copies = {{.owner = 1, .from = 256, .to = 512, .tokens = 9}, {.from = 128, .to = 256, .tokens = 1}};
  batch.next = {
      .rows = {{.new_tokens = 2, .prefix_len = 3}, {.new_tokens = 1, .prefix_len = 201}, {.new_tokens = 9}},
      .block_table = {4, 5, 6},
      .page_owner = {2, 1, 0},
      .max_pages = 1,
      .page_size = 128};
  expect_same(batch, {.logits = {1, 1}, .score_targets = {8, 9, -1, -1}});
}

TEST(StepOrders, ABrokenOrderIsADefect) {
  std::vector<int32_t> words = encode(
      {{.rows = {{.new_tokens = 1}}, .block_table = {1}, .page_owner = {}, .max_pages = 1, .page_size = 4},
       {7},
       {},
       {}},
      {.logits = {1}, .score_targets = {}});
  words.push_back(0);
  EXPECT_THROW(decode_step(words), Error);
  words.resize(words.size() - 2);
  EXPECT_THROW(decode_step(words), Error);
}

}  // namespace
}  // namespace longspan
