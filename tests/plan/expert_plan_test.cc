#include "plan/expert_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace longspan {
namespace {

/// A layer of a moe group: whose rows, and which experts they chose.
struct Problem {
  ExpertGroup group;          // of rank 0
  std::vector<int32_t> rows;  // [c]
  int32_t k = 1;
  std::vector<int32_t> ids;  // [G, k]

  ExpertGroup of(int32_t rank) const {
    ExpertGroup mine = group;
    mine.rank = rank;
    return mine;
  }
  int32_t begin(int32_t section) const { return std::accumulate(rows.begin(), rows.begin() + section, 0); }
  bool owns(int32_t ep_rank, int32_t row) const {
    const SliceRange part = even_part(group.experts, group.ep, ep_rank);
    return std::any_of(ids.begin() + row * k, ids.begin() + (row + 1) * k,
                       [&](int32_t id) { return id >= part.begin && id < part.end(); });
  }
};

Problem random_problem(std::mt19937& random) {
  Problem p;
  const int32_t copies = static_cast<int32_t>(1 + random() % 3),
                sections = static_cast<int32_t>(1 + random() % 4);
  const int32_t ranks = copies * sections;
  std::vector<int32_t> divisors;
  for (int32_t ep = 1; ep <= ranks; ++ep)
    if (ranks % ep == 0) divisors.push_back(ep);
  const int32_t ep = divisors[random() % divisors.size()];
  p.group = {.rank = 0,
             .copies = copies,
             .ep = ep,
             .moe_tp = ranks / ep,
             .experts = static_cast<int32_t>(ep + random() % 7),
             .has_shared = random() % 2 == 0};
  p.k = static_cast<int32_t>(1 + random() % static_cast<uint32_t>(std::min(4, p.group.experts)));
  for (int32_t s = 0; s < sections; ++s)
    p.rows.push_back(static_cast<int32_t>(random() % 4 == 0 ? 0 : random() % 9));
  std::vector<int32_t> all(static_cast<size_t>(p.group.experts));
  std::iota(all.begin(), all.end(), 0);
  for (int32_t row = 0; row < p.begin(sections); ++row) {
    std::shuffle(all.begin(), all.end(), random);
    p.ids.insert(p.ids.end(), all.begin(), all.begin() + p.k);
  }
  return p;
}

/// What an all_to_all_v brings to rank `to`, where rank r sends `sent[r]` in parts of `counts[r]`.
std::vector<int32_t> received(const std::vector<std::vector<int32_t>>& sent,
                              const std::vector<std::vector<int64_t>>& counts, int32_t to) {
  std::vector<int32_t> all;
  for (size_t r = 0; r < sent.size(); ++r) {
    const auto begin =
        sent[r].begin() + std::accumulate(counts[r].begin(), counts[r].begin() + to, int64_t{0});
    all.insert(all.end(), begin, begin + counts[r][static_cast<size_t>(to)]);
  }
  return all;
}

// Followed row by row over all ranks: rows are told by their number in the group.
TEST(ExpertPlan, EveryRowMeetsItsExpertsAndComesBackToAllItsCopies) {
  std::mt19937 random(31);
  for (int trial = 0; trial < 500; ++trial) {
    const Problem p = random_problem(random);
    const int32_t ranks = p.group.ranks();
    SCOPED_TRACE(fmt::format("trial {}: {} copies, ep {}, moe_tp {}, {} experts", trial, p.group.copies,
                             p.group.ep, p.group.moe_tp, p.group.experts));
    std::vector<ExpertPlan> plans;
    std::vector<std::vector<int32_t>> sent, results;
    std::vector<std::vector<int64_t>> send_counts, result_counts;
    for (int32_t r = 0; r < ranks; ++r) {
      const ExpertPlan& plan = plans.emplace_back(plan_experts(p.of(r), p.rows, p.ids));
      const int32_t begin = p.begin(p.group.section_of(r));
      auto& rows = sent.emplace_back();
      for (const int32_t row : plan.send_rows) rows.push_back(begin + row);
      send_counts.push_back(plan.send_counts);
      auto& products = results.emplace_back();
      for (const int32_t i : plan.result_rows) products.push_back(plan.work[i]);
      result_counts.push_back(plan.result_counts);
    }
    std::vector<int32_t> shared_by(p.begin(p.group.sections()), 0);
    for (int32_t r = 0; r < ranks; ++r) {
      const ExpertPlan& plan = plans[r];
      EXPECT_EQ(received(sent, send_counts, r), plan.work);
      for (int32_t from = 0; from < ranks; ++from) {
        EXPECT_EQ(send_counts[from][r], plan.recv_counts[from]);
        EXPECT_EQ(result_counts[from][r], plan.own_result_counts[from]);
      }
      // Whoever owns an expert of a row works on it; others only for the shared expert.
      const std::set<int32_t> work(plan.work.begin(), plan.work.end());
      EXPECT_EQ(work.size(), plan.work.size());
      for (int32_t row = 0; row < p.begin(p.group.sections()); ++row) {
        if (p.owns(r / p.group.moe_tp, row)) {
          EXPECT_TRUE(work.contains(row));
        }
      }
      std::set<int32_t> needed;
      for (const int32_t row : plan.work)
        if (p.owns(r / p.group.moe_tp, row)) needed.insert(row);
      for (int32_t s = 0; s < p.group.sections(); ++s)
        for (int64_t i = plan.shared[s].begin; i < plan.shared[s].end(); ++i) {
          ++shared_by[plan.work[i]];
          needed.insert(plan.work[i]);
        }
      EXPECT_EQ(needed, work) << "no row travels for nothing";

      // Each copy of a row gets every product of it, by ascending rank.
      const std::vector<int32_t> back = received(results, result_counts, r);
      const int32_t section = p.group.section_of(r), rows = p.rows[section];
      ASSERT_EQ(std::ssize(plan.combine), ranks * rows);
      std::set<int32_t> used;
      for (int32_t from = 0; from < ranks; ++from)
        for (int32_t i = 0; i < rows; ++i) {
          const int32_t row = p.begin(section) + i, at = plan.combine[from * rows + i];
          const auto& theirs = plans[from].work;
          EXPECT_EQ(at >= 0, std::find(theirs.begin(), theirs.end(), row) != theirs.end());
          if (at < 0) continue;
          EXPECT_EQ(back[at], row);
          used.insert(at);
        }
      EXPECT_EQ(used.size(), back.size());
      const SliceRange own = plan.shared[section];
      EXPECT_EQ(own.count, plan.own_shared.count);
      for (int64_t i = 0; i < own.count; ++i)
        EXPECT_EQ(plan.work[own.begin + i], p.begin(section) + plan.own_shared.begin + i);
    }
    for (const int32_t ranks_that_add : shared_by)
      EXPECT_EQ(ranks_that_add, p.group.has_shared ? p.group.moe_tp : 0) << "each has its columns";
  }
}

// Copies of a row never send it to each other, and share what they send to others.
TEST(ExpertPlan, CopiesOfARowSendItOnce) {
  // Two cp ranks with two copies each, four ep ranks; the row's experts are on all of them.
  const ExpertGroup group{.rank = 0, .copies = 2, .ep = 4, .moe_tp = 1, .experts = 4};
  const std::vector<int32_t> rows = {1, 0}, ids = {0, 1, 2, 3};
  for (int32_t rank = 0; rank < 4; ++rank) {
    ExpertGroup mine = group;
    mine.rank = rank;
    const ExpertPlan plan = plan_experts(mine, rows, ids);
    EXPECT_EQ(plan.work, std::vector<int32_t>{0});
    std::vector<int64_t> sent(4, 0);
    if (rank < 2) sent[rank] = sent[rank + 2] = 1;
    EXPECT_EQ(plan.send_counts, sent);
  }
}

TEST(ExpertPlan, GroupsOfALayout) {
  const LayoutModel model{.heads_q = 8,
                          .heads_kv = 2,
                          .experts = 8,
                          .experts_per_token = 2,
                          .hidden = 64,
                          .expert_width = 32,
                          .shared_expert_width = 16,
                          .vocab = 100};
  const Layout layout = make_layout({.tp = 8, .cp = 4, .moe_dp = 2, .ep = 2}, model);  // moe_tp 2
  for (int32_t rank = 0; rank < 8; ++rank) {
    const ExpertGroup group = expert_group(model, layout, rank);
    EXPECT_EQ(group.rank, rank % 4);
    EXPECT_EQ(group.copies, 2);
    EXPECT_EQ(group.sections(), 2);
    EXPECT_EQ(group.first_cp_rank + group.section_of(group.rank), layout.coordinates(rank).cp_rank);
    EXPECT_TRUE(group.has_shared);
  }
}

}  // namespace
}  // namespace longspan
