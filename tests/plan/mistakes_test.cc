// Mistakes that context-parallel implementations have made. Each test makes one on purpose and shows that it
// breaks a rule on a small example, which the real functions keep.

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "plan/cp_plan.h"
#include "plan/fia_model.h"
#include "plan/two_launch.h"
#include "plan/zigzag.h"

namespace longspan {
namespace {

using Rows = std::vector<BatchRow>;

struct Example {
  Example(Rows rows, int32_t cp) : rows(std::move(rows)), plan(plan_context_parallel(this->rows, cp, {})) {}

  TwoLaunch form(int32_t rank) const { return two_launch(plan, rows, rank); }
  int64_t local_rows(int32_t rank) const { return static_cast<int64_t>(plan.ranks[rank].token_index.size()); }
  /// Whether every local row sees its own sequence up to its own position, and the operator takes the call.
  bool attends_rightly(const TwoLaunch& form, int32_t rank) const {
    const auto sights = two_launch_sights(form, local_rows(rank));
    return sights && *sights == required_sights(plan.ranks[rank]);
  }
  bool attends_rightly() const {
    for (int32_t r = 0; r < plan.cp; ++r)
      if (!attends_rightly(form(r), r)) return false;
    return true;
  }

  Rows rows;
  CpPlan plan;
};

/// The rows of both launches, cut apart at `split`: what each row sees then.
bool right_when_split_at(const Example& example, int32_t rank, int64_t split) {
  const TwoLaunch form = example.form(rank);
  const auto prev = fia_sights(split, std::span(form.cu_seqlens_q_prev).subspan(1), form.kv_len_prev_list);
  const auto next = fia_sights(example.local_rows(rank) - split, std::span(form.cu_seqlens_q_next).subspan(1),
                               form.kv_len_next_list);
  return prev && next;
}

TEST(Mistakes, SplittingTheQueriesAtTheMidpoint) {
  const auto midpoint = [](const Example& e, int32_t rank) { return (e.local_rows(rank) + 1) / 2; };
  for (int32_t tokens = 4; tokens < 60; ++tokens) {  // how it goes unnoticed: right for any single sequence
    const Example one({{tokens, 3}}, 2);
    for (int32_t r = 0; r < 2; ++r) EXPECT_TRUE(right_when_split_at(one, r, midpoint(one, r)));
  }
  const Example two({{9, 0}, {13, 0}}, 2);
  EXPECT_FALSE(right_when_split_at(two, 0, midpoint(two, 0)));
  EXPECT_TRUE(right_when_split_at(two, 0, two.form(0).total_q_prev_tokens));
  EXPECT_TRUE(two.attends_rightly());
}

TEST(Mistakes, OneLengthForAllSequences) {
  const auto scalar = [](TwoLaunch form) {
    for (auto* list : {&form.kv_len_prev_list, &form.kv_len_next_list})
      std::fill(list->begin(), list->end(), list->front());
    return form;
  };
  const Example one({{9, 4}}, 2);
  EXPECT_TRUE(one.attends_rightly(scalar(one.form(1)), 1)) << "right for a single sequence";
  const Example two({{9, 4}, {12, 0}}, 2);
  EXPECT_FALSE(two.attends_rightly(scalar(two.form(1)), 1));
  EXPECT_TRUE(two.attends_rightly());
}

TEST(Mistakes, QueryLengthsThatAreNotCumulative) {
  const auto not_cumulative = [](TwoLaunch form) {
    std::ranges::copy(form.actual_seq_q_prev_list, form.cu_seqlens_q_prev.begin() + 1);
    std::ranges::copy(form.actual_seq_q_next_list, form.cu_seqlens_q_next.begin() + 1);
    return form;
  };
  const Example one({{9, 4}}, 2);
  EXPECT_TRUE(one.attends_rightly(not_cumulative(one.form(0)), 0)) << "right for a single sequence";
  const Example two({{9, 0}, {13, 0}}, 2);
  EXPECT_FALSE(two.attends_rightly(not_cumulative(two.form(0)), 0));
  EXPECT_TRUE(two.attends_rightly());
}

TEST(Mistakes, QueryRowsPaddedBeyondTheLastLength) {
  const Example example({{9, 0}, {6, 0}}, 2);
  const TwoLaunch form = example.form(1);
  ASSERT_LT(example.local_rows(1), form.max_rank_len);
  EXPECT_FALSE(two_launch_sights(form, form.max_rank_len)) << "the operator refuses rows without a length";
  for (int32_t r = 0; r < 2; ++r)
    EXPECT_EQ(example.local_rows(r),
              example.form(r).cu_seqlens_q_prev.back() + example.form(r).cu_seqlens_q_next.back());
}

TEST(Mistakes, PaddingToTheMeanShare) {
  const Example example({{5, 0}, {5, 0}, {5, 0}}, 2);
  const int32_t mean_share = (15 + 1) / 2;
  const std::vector<int32_t> counts = example.plan.rank_counts();
  const int32_t largest = *std::ranges::max_element(counts);
  EXPECT_GT(largest, mean_share) << "rank 0 has the odd token of every sequence: 9 rows, room for 8";
  EXPECT_EQ(example.form(0).max_rank_len, largest);
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), 15) << "exact counts need no padding at all";
}

TEST(Mistakes, LosingThePrefixToThePadding) {
  // 1 cached and 3670 new tokens at cp 4: 3671 in all, the new ones padded to 3672 = 459 * 8.
  const Rows rows = {{3670, 1}};
  const auto prefix_from_padded = [](const BatchRow& row, int32_t n) {
    return std::max(0, row.prefix_len + row.new_tokens - (row.new_tokens + n - 1) / n * n);
  };
  ASSERT_EQ(prefix_from_padded(rows[0], 8), 0);
  ASSERT_EQ(prefix_from_padded({3672, 1}, 8), 1) << "right where nothing is padded";

  const Example example(rows, 4);
  const Rows wrong_rows = {{3670, prefix_from_padded(rows[0], 8)}};
  for (int32_t r = 0; r < 4; ++r) {
    EXPECT_FALSE(example.attends_rightly(two_launch(example.plan, wrong_rows, r), r));
    EXPECT_TRUE(example.attends_rightly(example.form(r), r));
  }
  EXPECT_EQ(example.plan.ranks[0].position.front(), 1);
  EXPECT_EQ(example.plan.ranks[0].segments.back().kv_len, 3671);
}

TEST(Mistakes, DecodeRowsLetIntoAPrefillOnlyPlan) {
  // A decode row stands between two prompts. Metadata made from the prompts alone shifts all behind it.
  const Rows rows = {{8, 0}, {1, 50}, {8, 0}};
  Rows prompts;
  std::ranges::copy_if(rows, std::back_inserter(prompts),
                       [](const BatchRow& row) { return row.new_tokens > 1; });
  const auto owners = [](const CpPlan& plan) {
    std::vector<int32_t> times(17, 0);
    for (const RankPlan& rank : plan.ranks)
      for (const int32_t token : rank.token_index) ++times[token];
    return times;
  };
  EXPECT_NE(owners(plan_context_parallel(prompts, 2, {})), std::vector<int32_t>(17, 1)) << "one is nobody's";

  const Example example(rows, 2);
  EXPECT_EQ(owners(example.plan), std::vector<int32_t>(17, 1));
  EXPECT_TRUE(example.attends_rightly());
  const RowLocation decode = example.plan.last_token[1];
  EXPECT_EQ(example.plan.ranks[decode.rank].token_index[decode.local_row], 8);
  EXPECT_EQ(example.plan.ranks[decode.rank].position[decode.local_row], 50);
}

TEST(Mistakes, DecodeRowsCutLikePrompts) {
  // Cut like a prompt, every decode row's one token is in block 0: all of them on rank 0.
  const Rows rows(8, {1, 1000});
  std::vector<int32_t> cut_like_prompts(4, 0);
  for (const BatchRow& row : rows) {
    std::vector<int32_t> blocks(8);
    cut_evenly(row.new_tokens, blocks);
    for (int32_t b = 0; b < 8; ++b) cut_like_prompts[zigzag_owner(b, 4)] += blocks[b];
  }
  EXPECT_EQ(cut_like_prompts, (std::vector<int32_t>{8, 0, 0, 0}));
  EXPECT_EQ(Example(rows, 4).plan.rank_counts(), (std::vector<int32_t>{2, 2, 2, 2}));
}

TEST(Mistakes, AShortSequenceSwitchingTheCutOffForAll) {
  const Rows rows = {{100000, 0}, {3, 0}};
  const int32_t cp = 4;
  const bool all_long =
      std::ranges::all_of(rows, [](const BatchRow& row) { return row.new_tokens >= 2 * cp; });
  const CpPlan off = plan_context_parallel(rows, cp, {.min_tokens_to_cut = all_long ? 0 : 1 << 30});
  const CpPlan on = plan_context_parallel(rows, cp, {});
  const auto slowest_share = [](const CpPlan& plan) {
    int64_t total = 0, most = 0;
    for (const RankPlan& rank : plan.ranks) {
      total += rank.causal_work;
      most = std::max(most, rank.causal_work);
    }
    return static_cast<double>(most) / total;
  };
  EXPECT_GT(slowest_share(off), 0.999) << "one rank does everything";
  EXPECT_LT(slowest_share(on), 0.251);
  EXPECT_EQ(on.rank_counts(), (std::vector<int32_t>{25003, 25000, 25000, 25000}));
}

TEST(Mistakes, ReorderingTheGatheredRows) {
  // Splitting, permuting and concatenating the gathered rows copies all of them once more. Written straight
  // to the slots of gather_order they are in the same places.
  const Example example({{9, 0}, {6, 10}, {1, 4}}, 2);
  const std::vector<int32_t> gathered = example.plan.gather_order();  // stands for the rows themselves
  const TwoLaunch form = example.form(0);
  std::vector<std::vector<int32_t>> blocks;
  auto at = gathered.begin();
  for (const int32_t len : form.reverse_split_len) {
    blocks.emplace_back(at, at + len);
    at += len;
  }
  std::vector<int32_t> reordered;
  for (const int32_t i : form.cp_reverse_index)
    reordered.insert(reordered.end(), blocks[i].begin(), blocks[i].end());

  std::vector<int32_t> placed(gathered.size(), -1);
  for (size_t i = 0; i < gathered.size(); ++i) placed[example.plan.gather_order()[i]] = gathered[i];
  EXPECT_EQ(placed, reordered);
  EXPECT_NE(gathered, reordered) << "the rows do arrive out of order";
}

TEST(Mistakes, LaunchingTwice) {
  // One call over the segments, with the block table's rows repeated as batch entries, sees the same keys.
  // tests/engine/step_cost_test.cc counts the calls, and the rows of logits.
  const Example example({{9, 0}, {6, 10}, {1, 4}}, 2);
  for (int32_t r = 0; r < 2; ++r) {
    const RankPlan& rank = example.plan.ranks[r];
    std::vector<int32_t> cumulative, kv_len;
    for (const Segment& segment : rank.segments) {
      cumulative.push_back(segment.q_begin + segment.q_len);
      kv_len.push_back(segment.kv_len);
    }
    auto sights = fia_sights(example.local_rows(r), cumulative, kv_len);
    ASSERT_TRUE(sights);
    for (Sight& sight : *sights) sight.sequence = rank.segments[sight.sequence].block_table_row;
    EXPECT_EQ(*sights, required_sights(rank));
    EXPECT_EQ(*sights, *two_launch_sights(example.form(r), example.local_rows(r)));
  }
}

TEST(Mistakes, GatheringAllHiddenRowsForTheLogits) {
  // Only one row of each sequence is needed, and the plan says where it is.
  const Example example({{9, 0}, {6, 10}, {1, 4}}, 2);
  ASSERT_EQ(example.plan.last_token.size(), 3u);
  const std::vector<int32_t> last = {8, 14, 15};
  for (size_t s = 0; s < last.size(); ++s) {
    const RowLocation at = example.plan.last_token[s];
    EXPECT_EQ(example.plan.ranks[at.rank].token_index[at.local_row], last[s]);
  }
}

}  // namespace
}  // namespace longspan
