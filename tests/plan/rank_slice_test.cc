#include "plan/rank_slice.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace longspan {
namespace {

constexpr LayoutModel kModel = {.heads_q = 12,
                                .heads_kv = 3,
                                .experts = 5,
                                .expert_width = 24,
                                .shared_expert_width = 48,
                                .mlp_width = 36,
                                .vocab = 101};

TEST(RankSlice, ThePartsOfATotalAreDealtInOrder) {
  EXPECT_EQ(even_part(7, 3, 0), (SliceRange{0, 3}));
  EXPECT_EQ(even_part(7, 3, 1), (SliceRange{3, 2}));
  EXPECT_EQ(even_part(7, 3, 2), (SliceRange{5, 2}));
}

// Every tensor element is somebody's exactly once within its group, and query heads meet their own kv head.
TEST(RankSlice, GroupsHoldEverythingOnce) {
  int legal = 0;
  for (int32_t tp = 1; tp <= 12; ++tp)
    for (int32_t cp = 1; cp <= tp; ++cp)
      for (int32_t moe_dp = 1; moe_dp <= cp; ++moe_dp)
        for (int32_t ep = 1; ep <= 5; ++ep) {
          Layout layout;
          try {
            layout = make_layout({tp, cp, moe_dp, ep}, kModel);
          } catch (const std::exception&) {
            continue;
          }
          ++legal;
          std::set<int32_t> kv;
          std::map<int32_t, int> writers;
          for (int32_t rank = 0; rank < tp; ++rank) {
            kv.insert(kv_slice(kModel, layout, rank));
            const RankSlice slice = rank_slice(kModel, layout, rank);
            writers[kv_slice(kModel, layout, rank)] += slice.writes_kv;
            const int64_t share = kModel.heads_q / kModel.heads_kv;
            ASSERT_EQ(slice.heads_q.begin / share, slice.heads_kv.begin);
            ASSERT_EQ((slice.heads_q.end() - 1) / share, slice.heads_kv.end() - 1);
            const auto covers = [&](std::vector<int32_t> group, auto part, int64_t total) {
              int64_t next = 0;
              for (const int32_t mate : group) {
                const SliceRange range = part(rank_slice(kModel, layout, mate));
                ASSERT_EQ(range.begin, next);
                next = range.end();
              }
              ASSERT_EQ(next, total);
            };
            using S = const RankSlice&;
            covers(
                layout.attn_tp_group(rank), [](S s) { return s.heads_q; }, kModel.heads_q);
            covers(
                layout.attn_tp_group(rank), [](S s) { return s.mlp; }, kModel.mlp_width);
            covers(
                layout.attn_tp_group(rank), [](S s) { return s.vocab; }, kModel.vocab);
            covers(
                layout.ep_group(rank), [](S s) { return s.experts; }, kModel.experts);
            covers(
                layout.moe_tp_group(rank), [](S s) { return s.expert_width; }, kModel.expert_width);
          }
          ASSERT_EQ(std::ssize(kv), kv_slices(kModel, layout));
          for (const auto& [slice, count] : writers) ASSERT_EQ(count, cp) << "slice " << slice;
        }
  EXPECT_GT(legal, 50);
}

}  // namespace
}  // namespace longspan
