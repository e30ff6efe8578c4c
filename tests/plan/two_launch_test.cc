#include "plan/two_launch.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <numeric>

#include "plan/fia_model.h"
#include "plan/random_batch.h"

namespace longspan {
namespace {

using Rows = std::vector<BatchRow>;

TEST(TwoLaunch, TwoSequencesByHand) {
  const Rows rows = {{9, 0}, {6, 10}};
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  const TwoLaunch form = two_launch(plan, rows, 1);
  EXPECT_EQ(form.split_list, (std::vector<int32_t>{3, 2, 2, 2, 2, 2, 1, 1}));
  EXPECT_EQ(form.zigzag_index, (std::vector<int32_t>{1, 5, 2, 6}));
  EXPECT_EQ(form.per_rank_actual_token, (std::vector<int32_t>{8, 7}));
  EXPECT_EQ(form.max_rank_len, 8);
  EXPECT_EQ(form.reverse_split_len, (std::vector<int32_t>{3, 2, 2, 1, 2, 2, 2, 1}));
  EXPECT_EQ(form.cp_reverse_index, (std::vector<int32_t>{0, 4, 6, 2, 1, 5, 7, 3}));
  EXPECT_EQ(form.actual_seq_q_prev_list, (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(form.actual_seq_q_next_list, (std::vector<int32_t>{2, 1}));
  EXPECT_EQ(form.cu_seqlens_q_prev, (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(form.cu_seqlens_q_next, (std::vector<int32_t>{0, 2, 3}));
  EXPECT_EQ(form.kv_len_prev_list, (std::vector<int32_t>{5, 14}));
  EXPECT_EQ(form.kv_len_next_list, (std::vector<int32_t>{7, 15}));
  EXPECT_EQ(form.total_q_prev_tokens, 4);
}

TEST(TwoLaunch, BrokenCallsAreFound) {
  const Rows rows = {{9, 0}};
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  EXPECT_THROW(two_launch(plan, rows, 2), Error);
  EXPECT_THROW(two_launch(plan, rows, -1), Error);
  EXPECT_THROW(two_launch(plan, Rows{{9, 0}, {9, 0}}, 0), Error);
}

/// What the form's consumers do with it, on actual token indices.
void expect_usable(const Rows& rows, const CpPlan& plan) {
  const int32_t n = 2 * plan.cp;
  const size_t blocks = rows.size() * n;
  std::vector<int32_t> tokens(token_count(rows));
  std::iota(tokens.begin(), tokens.end(), 0);
  std::vector<std::vector<int32_t>> by_block;
  std::vector<bool> owned(blocks, false);

  for (int32_t r = 0; r < plan.cp; ++r) {
    const TwoLaunch form = two_launch(plan, rows, r);
    const RankPlan& rank = plan.ranks[r];
    const std::vector<int32_t> counts = plan.rank_counts();
    ASSERT_EQ(form.per_rank_actual_token, counts);
    ASSERT_EQ(form.max_rank_len, *std::ranges::max_element(counts));
    ASSERT_EQ(form.total_q_prev_tokens, rank.total_q_prev_tokens);
    ASSERT_EQ(form.total_q_prev_tokens,
              std::accumulate(form.actual_seq_q_prev_list.begin(), form.actual_seq_q_prev_list.end(), 0));

    // Splitting the tokens by split_list and taking zigzag_index gives the local rows.
    by_block.clear();
    auto at = tokens.begin();
    for (const int32_t len : form.split_list) {
      by_block.emplace_back(at, at + len);
      at += len;
    }
    ASSERT_EQ(at, tokens.end());
    std::vector<int32_t> local;
    ASSERT_EQ(form.zigzag_index.size(), 2 * rows.size());
    for (const int32_t block : form.zigzag_index) {
      ASSERT_FALSE(owned.at(block));
      owned[block] = true;
      local.insert(local.end(), by_block[block].begin(), by_block[block].end());
    }
    ASSERT_EQ(local, rank.token_index);

    // Both launches together see what each row has to see.
    const auto sights = two_launch_sights(form, static_cast<int64_t>(local.size()));
    ASSERT_TRUE(sights.has_value());
    ASSERT_EQ(*sights, required_sights(rank));

    // Splitting the gathered rows by reverse_split_len and permuting gives the sequences back.
    std::vector<int32_t> sorted = form.cp_reverse_index;
    std::ranges::sort(sorted);
    for (size_t i = 0; i < blocks; ++i) ASSERT_EQ(sorted[i], static_cast<int32_t>(i)) << "a permutation";
    const std::vector<int32_t> gathered = plan.gather_order();
    std::vector<size_t> begin(blocks + 1, 0);
    for (size_t i = 0; i < blocks; ++i) begin[i + 1] = begin[i] + form.reverse_split_len[i];
    std::vector<int32_t> restored;
    for (const int32_t i : form.cp_reverse_index)
      restored.insert(restored.end(), gathered.begin() + begin[i], gathered.begin() + begin[i + 1]);
    ASSERT_EQ(restored, tokens);
  }
  ASSERT_TRUE(std::ranges::all_of(owned, [](bool o) { return o; })) << "every block has an owner";
}

TEST(TwoLaunch, AllSmallBatches) {
  for (int32_t cp = 1; cp <= 4; ++cp)
    for (int32_t a = 1; a <= 12; ++a)
      for (int32_t b = 0; b <= 12; ++b)
        for (int32_t prefix = 0; prefix <= 3; ++prefix) {
          Rows rows = {{a, 3 - prefix}};
          if (b > 0) rows.push_back({b, prefix});
          ASSERT_NO_FATAL_FAILURE(expect_usable(rows, plan_context_parallel(rows, cp, {})))
              << a << ", " << b << " at cp " << cp;
        }
}

TEST(TwoLaunch, RandomBatches) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const Rows rows = random_rows(random, 9, 200);
    const int32_t cp = 1 + i % 9;
    ASSERT_NO_FATAL_FAILURE(expect_usable(rows, plan_context_parallel(rows, cp, {}))) << "batch " << i;
  }
}

}  // namespace
}  // namespace longspan
