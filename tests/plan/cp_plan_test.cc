#include "plan/cp_plan.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <numeric>

#include "plan/random_batch.h"

namespace longspan {
namespace {

using Rows = std::vector<BatchRow>;

int64_t keys_seen(const Rows& rows) {
  int64_t total = 0;
  for (const BatchRow& row : rows)
    for (int64_t i = 1; i <= row.new_tokens; ++i) total += row.prefix_len + i;
  return total;
}

/// Everything a plan promises that can be said without knowing how it cuts.
void expect_valid(const Rows& rows, const CpPlan& plan) {
  const int32_t bs = static_cast<int32_t>(rows.size());
  const int64_t total = token_count(rows);
  ASSERT_EQ(static_cast<int64_t>(plan.ranks.size()), plan.cp);
  ASSERT_EQ(plan.block_len.size(), rows.size() * 2 * plan.cp);

  std::vector<int32_t> sequence_of(total), position_of(total);
  std::vector<int32_t> first_token(bs + 1, 0);
  for (int32_t s = 0; s < bs; ++s) {
    first_token[s + 1] = first_token[s] + rows[s].new_tokens;
    for (int32_t i = 0; i < rows[s].new_tokens; ++i) {
      sequence_of[first_token[s] + i] = s;
      position_of[first_token[s] + i] = rows[s].prefix_len + i;
    }
  }

  std::vector<int32_t> times_owned(total, 0);
  std::vector<int32_t> ranks_of_sequence(bs, 0);
  int64_t work = 0;
  for (int32_t r = 0; r < plan.cp; ++r) {
    const RankPlan& rank = plan.ranks[r];
    const int32_t local = static_cast<int32_t>(rank.token_index.size());
    ASSERT_EQ(rank.position.size(), rank.token_index.size());
    ASSERT_EQ(rank.sequence.size(), rank.token_index.size());
    for (int32_t i = 0; i < local; ++i) {
      const int32_t g = rank.token_index[i];
      ASSERT_TRUE(g >= 0 && g < total);
      ++times_owned[g];
      ASSERT_EQ(rank.sequence[i], sequence_of[g]);
      ASSERT_EQ(rank.position[i], position_of[g]);
    }

    // [prevs | nexts]: in each half sequences ascend, and positions within a sequence.
    ASSERT_TRUE(rank.total_q_prev_tokens >= 0 && rank.total_q_prev_tokens <= local);
    const auto half = rank.token_index.begin() + rank.total_q_prev_tokens;
    ASSERT_TRUE(std::is_sorted(rank.token_index.begin(), half));
    ASSERT_TRUE(std::is_sorted(half, rank.token_index.end()));

    // Segments cover the local rows exactly; each row sees the keys up to its own position and no other.
    int32_t row = 0;
    int64_t area = 0;
    ASSERT_LE(rank.segments.size(), 2 * rows.size());
    std::vector<bool> here(bs, false);
    for (const Segment& segment : rank.segments) {
      ASSERT_EQ(segment.q_begin, row);
      ASSERT_GE(segment.q_len, 1);
      ASSERT_LE(segment.q_len, segment.kv_len);
      ASSERT_TRUE(segment.causal);
      here[segment.block_table_row] = true;
      for (int32_t i = 0; i < segment.q_len; ++i, ++row) {
        ASSERT_EQ(rank.sequence[row], segment.block_table_row);
        const int32_t last_key = segment.kv_len - segment.q_len + i;
        ASSERT_EQ(last_key, rank.position[row]);
        area += last_key + 1;
      }
      ASSERT_TRUE(row <= rank.total_q_prev_tokens || segment.q_begin >= rank.total_q_prev_tokens)
          << "no segment spans the split point";
    }
    ASSERT_EQ(row, local);
    ASSERT_EQ(rank.causal_work, area);
    work += area;
    for (int32_t s = 0; s < bs; ++s) ranks_of_sequence[s] += here[s];
  }
  ASSERT_EQ(std::ranges::count(times_owned, 1), total) << "every token on exactly one rank";
  ASSERT_EQ(work, keys_seen(rows));

  ASSERT_EQ(plan.last_token.size(), rows.size());
  for (int32_t s = 0; s < bs; ++s) {
    const RowLocation at = plan.last_token[s];
    ASSERT_EQ(plan.ranks.at(at.rank).token_index.at(at.local_row), first_token[s + 1] - 1);
  }

  std::vector<int32_t> counts;
  for (const RankPlan& rank : plan.ranks) counts.push_back(static_cast<int32_t>(rank.token_index.size()));
  ASSERT_EQ(plan.rank_counts(), counts);
  const std::vector<int32_t> order = plan.gather_order();
  int64_t at = 0;
  for (const RankPlan& rank : plan.ranks)
    for (const int32_t token : rank.token_index) ASSERT_EQ(order[at++], token);
  ASSERT_EQ(at, static_cast<int64_t>(order.size()));
  ASSERT_EQ(plan.any_cut, std::ranges::any_of(ranks_of_sequence, [](int32_t n) { return n > 1; }));

  // block_len says it all: sizes add up, and the owners of the blocks hold that many tokens.
  const int32_t n = 2 * plan.cp;
  std::vector<int32_t> by_owner(plan.cp, 0);
  for (int32_t s = 0; s < bs; ++s) {
    const auto blocks = plan.block_len.begin() + s * n;
    ASSERT_EQ(std::accumulate(blocks, blocks + n, 0), rows[s].new_tokens);
    for (int32_t b = 0; b < n; ++b) by_owner[std::min(b, n - 1 - b)] += blocks[b];
  }
  ASSERT_EQ(by_owner, counts);
}

/// The plan from the definition, token by token: tokens are dealt to blocks one at a time, whole rows are
/// placed by looking for the heaviest one left and the least loaded rank, local rows are sorted into place.
std::vector<RankPlan> brute_force(const Rows& rows, int32_t cp, int32_t min_tokens_to_cut) {
  struct Token {
    int32_t half, sequence, position, index;
  };
  const int32_t n = 2 * cp;
  std::vector<std::vector<Token>> owned(cp);
  std::vector<int64_t> work(cp, 0);
  std::vector<int32_t> first(rows.size(), 0), waiting;
  for (size_t s = 1; s < rows.size(); ++s) first[s] = first[s - 1] + rows[s - 1].new_tokens;

  for (int32_t s = 0; s < static_cast<int32_t>(rows.size()); ++s) {
    if (cp == 1 || rows[s].new_tokens < std::max(n, min_tokens_to_cut)) {
      waiting.push_back(s);
      continue;
    }
    std::vector<int32_t> size(n, 0);
    for (int32_t i = 0; i < rows[s].new_tokens; ++i) ++size[i % n];
    int32_t i = 0;
    for (int32_t b = 0; b < n; ++b)
      for (int32_t k = 0; k < size[b]; ++k, ++i) {
        const int32_t rank = std::min(b, n - 1 - b);
        owned[rank].push_back({b == rank ? 0 : 1, s, rows[s].prefix_len + i, first[s] + i});
        work[rank] += rows[s].prefix_len + i + 1;
      }
  }
  while (!waiting.empty()) {
    const auto heaviest = std::max_element(waiting.begin(), waiting.end(), [&](int32_t a, int32_t b) {
      return keys_seen({rows[a]}) < keys_seen({rows[b]});
    });
    const int32_t s = *heaviest;
    waiting.erase(heaviest);
    const int32_t rank = static_cast<int32_t>(std::min_element(work.begin(), work.end()) - work.begin());
    work[rank] += keys_seen({rows[s]});
    for (int32_t i = 0; i < rows[s].new_tokens; ++i)
      owned[rank].push_back({0, s, rows[s].prefix_len + i, first[s] + i});
  }

  std::vector<RankPlan> plans(cp);
  for (int32_t r = 0; r < cp; ++r) {
    std::ranges::sort(owned[r], [](const Token& a, const Token& b) {
      return std::tie(a.half, a.sequence, a.position) < std::tie(b.half, b.sequence, b.position);
    });
    RankPlan& plan = plans[r];
    const Token* before = nullptr;
    for (const Token& token : owned[r]) {
      const int32_t row = static_cast<int32_t>(plan.token_index.size());
      if (before == nullptr || before->half != token.half || before->sequence != token.sequence)
        plan.segments.push_back({row, 0, token.sequence, 0, true});
      ++plan.segments.back().q_len;
      plan.segments.back().kv_len = token.position + 1;
      plan.token_index.push_back(token.index);
      plan.position.push_back(token.position);
      plan.sequence.push_back(token.sequence);
      plan.total_q_prev_tokens += token.half == 0;
      before = &token;
    }
    plan.causal_work = work[r];
  }
  return plans;
}

TEST(CpPlan, TokensOfRanksAddUpToTheRows) {
  const std::vector<BatchRow> rows = {{.new_tokens = 1003, .prefix_len = 7},
                                      {.new_tokens = 1, .prefix_len = 50}};
  for (const int32_t cp : {1, 2, 3}) {
    const CpPlan plan = plan_context_parallel(rows, cp, {});
    const std::vector<int32_t> tokens = plan.tokens_of_ranks();
    ASSERT_EQ(tokens.size(), rows.size() * static_cast<size_t>(cp));
    std::vector<int32_t> of_rank(static_cast<size_t>(cp));
    for (size_t row = 0; row < rows.size(); ++row) {
      int32_t sum = 0;
      for (int32_t rank = 0; rank < cp; ++rank) {
        sum += tokens[row * static_cast<size_t>(cp) + static_cast<size_t>(rank)];
        of_rank[static_cast<size_t>(rank)] +=
            tokens[row * static_cast<size_t>(cp) + static_cast<size_t>(rank)];
      }
      EXPECT_EQ(sum, rows[row].new_tokens) << "cp " << cp << " row " << row;
    }
    for (int32_t rank = 0; rank < cp; ++rank)
      EXPECT_EQ(of_rank[static_cast<size_t>(rank)],
                std::ssize(plan.ranks[static_cast<size_t>(rank)].position));
  }
}

TEST(CpPlan, OneSequenceByHand) {
  // 13 tokens after 5 cached ones at cp 2: blocks of 4, 3, 3, 3; rank 0 has the outer ones.
  const Rows rows = {{13, 5}};
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  EXPECT_EQ(plan.block_len, (std::vector<int32_t>{4, 3, 3, 3}));
  EXPECT_EQ(plan.ranks[0].token_index, (std::vector<int32_t>{0, 1, 2, 3, 10, 11, 12}));
  EXPECT_EQ(plan.ranks[0].position, (std::vector<int32_t>{5, 6, 7, 8, 15, 16, 17}));
  EXPECT_EQ(plan.ranks[0].segments, (std::vector<Segment>{{0, 4, 0, 9, true}, {4, 3, 0, 18, true}}));
  EXPECT_EQ(plan.ranks[0].total_q_prev_tokens, 4);
  EXPECT_EQ(plan.ranks[1].segments, (std::vector<Segment>{{0, 3, 0, 12, true}, {3, 3, 0, 15, true}}));
  EXPECT_EQ(plan.rank_counts(), (std::vector<int32_t>{7, 6}));
  EXPECT_EQ(plan.last_token, (std::vector<RowLocation>{{0, 6}}));
  EXPECT_TRUE(plan.any_cut);
}

TEST(CpPlan, ShortAndDecodeRowsBesideALongOne) {
  // Sequence 1 is cut; 0 and 3 are too short, 2 decodes far into its text: each stays whole, and so every
  // token of it is in one block, that of its rank.
  const Rows rows = {{3, 0}, {16, 0}, {1, 99}, {2, 7}};
  const CpPlan plan = plan_context_parallel(rows, 2, {});
  EXPECT_EQ(plan.block_len, (std::vector<int32_t>{0, 3, 0, 0,  //
                                                  4, 4, 4, 4,  //
                                                  1, 0, 0, 0,  //
                                                  0, 2, 0, 0}));
  EXPECT_EQ(plan.ranks[0].segments,
            (std::vector<Segment>{{0, 4, 1, 4, true}, {4, 1, 2, 100, true}, {5, 4, 1, 16, true}}));
  EXPECT_EQ(plan.ranks[0].total_q_prev_tokens, 5);
  EXPECT_EQ(plan.ranks[1].total_q_prev_tokens, 9);
  EXPECT_EQ(plan.last_token, (std::vector<RowLocation>{{1, 2}, {0, 8}, {0, 4}, {1, 8}}));
}

TEST(CpPlan, TheThresholdIsTheRowsOwn) {
  const Rows rows = {{100, 0}, {99, 0}};
  const CpPlan plan = plan_context_parallel(rows, 2, {.min_tokens_to_cut = 100});
  EXPECT_EQ(plan.block_len, (std::vector<int32_t>{25, 25, 25, 25, 99, 0, 0, 0}));
  const CpPlan low = plan_context_parallel(Rows{{4, 0}, {3, 0}}, 2, {.min_tokens_to_cut = 1});
  EXPECT_EQ(low.block_len, (std::vector<int32_t>{1, 1, 1, 1, 3, 0, 0, 0})) << "never an empty block by a cut";
}

TEST(CpPlan, AStepOfFewTokensForEachRankIsNotCut) {
  const Rows rows = {{100, 0}, {99, 7}};
  const CpPlan whole = plan_context_parallel(rows, 2, {.min_tokens_per_rank = 100});
  EXPECT_FALSE(whole.any_cut);
  EXPECT_EQ(whole, plan_context_parallel(rows, 2, {.min_tokens_to_cut = 101}));
  EXPECT_EQ(plan_context_parallel(rows, 2, {.min_tokens_per_rank = 99}), plan_context_parallel(rows, 2, {}));
}

TEST(CpPlan, OneRankIsPlainVarlen) {
  const Rows rows = {{70, 0}, {1, 30}, {5, 2}};
  const CpPlan plan = plan_context_parallel(rows, 1, {});
  ASSERT_EQ(plan.ranks.size(), 1u);
  std::vector<int32_t> all(76);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(plan.ranks[0].token_index, all);
  EXPECT_EQ(plan.ranks[0].segments,
            (std::vector<Segment>{{0, 70, 0, 70, true}, {70, 1, 1, 31, true}, {71, 5, 2, 7, true}}));
  EXPECT_EQ(plan.ranks[0].total_q_prev_tokens, 76);
  EXPECT_FALSE(plan.any_cut);
}

TEST(CpPlan, AnEmptyBatchIsAnEmptyPlan) {
  const CpPlan plan = plan_context_parallel({}, 3, {});
  EXPECT_EQ(plan.rank_counts(), (std::vector<int32_t>{0, 0, 0}));
  EXPECT_TRUE(plan.gather_order().empty());
}

TEST(CpPlan, BrokenRowsAreFound) {
  const auto plan = [](BatchRow row, int32_t cp) { plan_context_parallel(Rows{row}, cp, {}); };
  EXPECT_THROW(plan({0, 5}, 2), Error);
  EXPECT_THROW(plan({3, -1}, 2), Error);
  EXPECT_THROW(plan({3, 0}, 0), Error);
  EXPECT_THROW(plan({2, std::numeric_limits<int32_t>::max() - 1}, 2), Error);
}

TEST(CpPlan, EqualsTheDefinitionOnAllSmallBatches) {
  std::vector<BatchRow> choices;
  for (int32_t tokens = 1; tokens <= 12; ++tokens)
    for (int32_t prefix = 0; prefix <= 3; ++prefix) choices.push_back({tokens, prefix});
  for (int32_t cp = 1; cp <= 4; ++cp) {
    const auto compare = [cp](const Rows& rows) {
      const CpPlan plan = plan_context_parallel(rows, cp, {});
      ASSERT_NO_FATAL_FAILURE(expect_valid(rows, plan));
      ASSERT_EQ(plan.ranks, brute_force(rows, cp, 0));
    };
    for (const BatchRow& a : choices) {
      ASSERT_NO_FATAL_FAILURE(compare({a}));
      for (const BatchRow& b : choices)
        ASSERT_NO_FATAL_FAILURE(compare({a, b}))
            << a.new_tokens << "+" << a.prefix_len << ", " << b.new_tokens << "+" << b.prefix_len;
    }
  }
}

class CpPlanRandom : public testing::TestWithParam<int32_t> {};

TEST_P(CpPlanRandom, EqualsTheDefinition) {
  const int32_t cp = GetParam();
  std::mt19937 random(cp);
  for (int i = 0; i < 1000; ++i) {
    const Rows rows = random_rows(random, 9, 300);
    const int32_t min_tokens_to_cut = i % 3 == 0 ? 50 : 0;
    const CpPlan plan = plan_context_parallel(rows, cp, {min_tokens_to_cut});
    ASSERT_NO_FATAL_FAILURE(expect_valid(rows, plan)) << "batch " << i;
    ASSERT_EQ(plan.ranks, brute_force(rows, cp, min_tokens_to_cut)) << "batch " << i;
    ASSERT_EQ(plan, plan_context_parallel(rows, cp, {min_tokens_to_cut})) << "the same on every rank";
  }
}

TEST_P(CpPlanRandom, CutRowsAreBalanced) {
  const int32_t cp = GetParam(), n = 2 * cp;
  std::mt19937 random(100 + cp);
  for (int i = 0; i < 300; ++i) {
    Rows rows = random_rows(random, 6, 3000);
    int64_t bound = 0;
    for (BatchRow& row : rows) {
      row.new_tokens += n;
      bound += 3 * (row.prefix_len + row.new_tokens);
    }
    const CpPlan plan = plan_context_parallel(rows, cp, {});
    const auto less = [](const RankPlan& a, const RankPlan& b) { return a.causal_work < b.causal_work; };
    const auto [least, most] = std::ranges::minmax_element(plan.ranks, less);
    // Of one sequence two ranks differ by at most two rows, and what rows of the same number see differs by
    // how far the longer blocks before them push them back: three times the keys of its last row cover both.
    ASSERT_LE(most->causal_work - least->causal_work, bound) << "batch " << i;
    const std::vector<int32_t> counts = plan.rank_counts();
    const auto [fewest, largest] = std::ranges::minmax(counts);
    ASSERT_LE(largest - fewest, 2 * static_cast<int32_t>(rows.size()));
  }
}

/// Whole rows placed heaviest first leave no rank further ahead than the lightest row it holds could explain.
TEST_P(CpPlanRandom, WholeRowsGoWhereLeastIsDone) {
  const int32_t cp = GetParam();
  std::mt19937 random(200 + cp);
  for (int i = 0; i < 300; ++i) {
    const Rows rows = random_rows(random, 32, 200);
    const CpPlan plan = plan_context_parallel(rows, cp, {.min_tokens_to_cut = 1000});
    ASSERT_FALSE(plan.any_cut);
    int64_t least = std::numeric_limits<int64_t>::max();
    for (const RankPlan& rank : plan.ranks) least = std::min(least, rank.causal_work);
    for (const RankPlan& rank : plan.ranks) {
      int64_t lightest = std::numeric_limits<int64_t>::max();
      for (const Segment& segment : rank.segments)
        lightest = std::min(lightest, keys_seen({rows[segment.block_table_row]}));
      if (rank.segments.empty()) continue;
      ASSERT_LE(rank.causal_work - lightest, least);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CpPlanRandom, testing::Range(1, 10));

}  // namespace
}  // namespace longspan
