#include "plan/layout_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <string>

namespace longspan {
namespace {

using testing::HasSubstr;

constexpr LayoutModel kQwen3Moe = {
    .heads_q = 32, .heads_kv = 4, .experts = 128, .expert_width = 768, .vocab = 151936};
constexpr LayoutModel kOddMoe = {.heads_q = 12,
                                 .heads_kv = 3,
                                 .experts = 5,
                                 .expert_width = 24,
                                 .shared_expert_width = 18,
                                 .mlp_width = 36,
                                 .vocab = 7};
constexpr LayoutModel kDense = {.heads_q = 8, .heads_kv = 2, .mlp_width = 96, .vocab = 100};

std::string refusal(const LayoutOptions& options, const LayoutModel& model = kQwen3Moe) {
  try {
    make_layout(options, model);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    return error.what();
  }
  return "";
}

/// The flags a person reads at the end of a refusal, taken at their word.
LayoutOptions suggested(const std::string& message) {
  const std::string lead = "nearest legal setting: ";
  const size_t at = message.find(lead);
  EXPECT_NE(at, std::string::npos) << message;
  std::istringstream words(message.substr(at + lead.size()));
  LayoutOptions options;
  std::string flag;
  for (int32_t value = 0; words >> flag >> value;) {
    if (flag == "--tp") options.tp = value;
    if (flag == "--cp") options.cp = value;
    if (flag == "--moe-dp") options.moe_dp = value;
    if (flag == "--ep") options.ep = value;
  }
  return options;
}

/// The rules once more, as sentences, on a grid found by search.
std::optional<Layout> legal_grid(const LayoutOptions& o, const LayoutModel& m) {
  const int32_t tp = o.tp == 0 ? o.cp : o.tp;
  std::optional<Layout> found;
  for (int32_t attn_tp = 1; attn_tp <= tp; ++attn_tp) {
    if (o.cp * attn_tp != tp) continue;
    for (int32_t moe_dp = 1; moe_dp <= o.cp; ++moe_dp) {
      if (o.cp % moe_dp != 0 || (o.moe_dp != 0 && o.moe_dp != moe_dp)) continue;
      for (int32_t moe_tp = 1; moe_tp <= tp; ++moe_tp)
        if (moe_dp * o.ep * moe_tp == tp) found = Layout{tp, 1, o.cp, attn_tp, moe_dp, o.ep, moe_tp};
    }
  }
  if (!found) return {};
  const bool heads = m.heads_q % found->attn_tp == 0 &&
                     (m.heads_kv % found->attn_tp == 0 || found->attn_tp % m.heads_kv == 0);
  const bool widths = m.mlp_width % found->attn_tp == 0 && m.vocab >= found->attn_tp;
  const bool experts = m.experts == 0 ? o.ep == 1
                                      : o.ep <= m.experts && m.expert_width % found->moe_tp == 0 &&
                                            m.shared_expert_width % found->moe_tp == 0;
  return heads && widths && experts ? found : std::nullopt;
}

TEST(LayoutRules, DefaultsAndShortForms) {
  EXPECT_EQ(make_layout({}, kQwen3Moe), Layout{});
  EXPECT_EQ(make_layout({.cp = 4}, kQwen3Moe), (Layout{4, 1, 4, 1, 4, 1, 1})) << "cp alone raises tp";
  EXPECT_EQ(make_layout({.tp = 4}, kQwen3Moe), (Layout{4, 1, 1, 4, 1, 1, 4}));
  EXPECT_EQ(make_layout({.tp = 4, .cp = 2, .moe_dp = 2}, kQwen3Moe), (Layout{4, 1, 2, 2, 2, 1, 2}))
      << "the layout that serving engines run";
  EXPECT_EQ(make_layout({.tp = 4, .cp = 4, .ep = 2}, kQwen3Moe), (Layout{4, 1, 4, 1, 2, 2, 1}))
      << "cp x ep does not divide tp: the largest divisor of cp that fits";
}

TEST(LayoutRules, RefusalsNameRuleValuesAndNearestSetting) {
  const auto has = [](const char* rule, const char* nearest) {
    return AllOf(HasSubstr(rule), HasSubstr(nearest));
  };
  EXPECT_THAT(refusal({.tp = 1, .cp = 2}),
              has("cp must divide tp (tp = cp x attn-tp): tp 1, cp 2", ": --tp 1 --cp 1"));
  EXPECT_THAT(refusal({.tp = 4, .cp = 2, .moe_dp = 4}),
              has("moe-dp must divide cp: moe-dp 4, cp 2", "--tp 4 --cp 4 --moe-dp 4"));
  EXPECT_THAT(refusal({.cp = 4, .ep = 3}),
              has("tp = moe-dp x ep x moe-tp): tp 4, moe-dp 1, ep 3", ": --cp 4 --ep 2"));
  EXPECT_THAT(refusal({.tp = 6}), has("query heads: attn-tp 6 (tp 6 / cp 1), 32 heads", "--tp 6 --cp 3"));
  EXPECT_THAT(refusal({.tp = 8}, {.heads_q = 8, .heads_kv = 3}),
              has("or be a multiple of them: attn-tp 8", "3 heads"));
  EXPECT_THAT(refusal({.tp = 2}, {.mlp_width = 5}), HasSubstr("query heads"));
  EXPECT_THAT(refusal({.tp = 2}, {.heads_q = 2, .mlp_width = 5, .vocab = 9}), has("MLP width", "width 5"));
  EXPECT_THAT(refusal({.tp = 2}, {.heads_q = 2}), has("vocabulary", "1 tokens"));
  EXPECT_THAT(refusal({.cp = 2, .ep = 2}, kDense), has("ep needs a model with experts: ep 2", ": --cp 2"));
  EXPECT_THAT(refusal({.cp = 6, .ep = 6}, kOddMoe), has("ep can't exceed", "ep 6, 5 experts"));
  EXPECT_THAT(refusal({.cp = 5, .moe_dp = 1}, kOddMoe), has("expert width: moe-tp 5", "width 24"));
  EXPECT_THAT(refusal({.cp = 4, .moe_dp = 1}, kOddMoe), has("shared expert's width: moe-tp 4", "width 18"));
  EXPECT_THAT(refusal({.cp = 0}), has("at least 1", ": --cp 1"));
  EXPECT_THAT(refusal({.tp = -4}), has("tp -4", ""));
  EXPECT_THAT(refusal({.tp = 2000000000, .ep = 2000000000}), has("at most 1024 ranks", ""));
  EXPECT_THAT(refusal({.cp = 2, .moe_dp = 1000, .ep = 1000}), HasSubstr("moe-dp must divide cp"));
}

void expect_decided_rightly(const LayoutOptions& options, const LayoutModel& model) {
  const auto expected = legal_grid(options, model);
  const std::string message = refusal(options, model);
  ASSERT_EQ(message.empty(), expected.has_value()) << to_flags(options) << ": " << message;
  if (expected) {
    ASSERT_EQ(make_layout(options, model), *expected) << to_flags(options);
    return;
  }
  const LayoutOptions nearest = suggested(message);
  ASSERT_TRUE(legal_grid(nearest, model)) << message;
  ASSERT_EQ(refusal(nearest, model), "") << message;
}

TEST(LayoutRules, EveryCombinationUpToSixteenRanks) {
  for (int32_t tp = 0; tp <= 16; ++tp)
    for (int32_t cp = 1; cp <= 16; ++cp)
      for (int32_t moe_dp = 0; moe_dp <= 16; ++moe_dp)
        for (int32_t ep = 1; ep <= 16; ++ep)
          ASSERT_NO_FATAL_FAILURE(expect_decided_rightly({tp, cp, moe_dp, ep}, kOddMoe));
}

TEST(LayoutRules, OtherModelsUpToSixteenRanks) {
  for (const LayoutModel& model : {kQwen3Moe, kDense})
    for (int32_t tp = 0; tp <= 16; ++tp)
      for (int32_t cp = 1; cp <= 16; ++cp)
        for (const int32_t moe_dp : {0, 1, 2, 3, 8})
          for (const int32_t ep : {1, 2, 3, 8})
            ASSERT_NO_FATAL_FAILURE(expect_decided_rightly({tp, cp, moe_dp, ep}, model));
}

TEST(LayoutRules, OneChangedFlagIsNearerThanTwo) {
  for (int32_t cp = 1; cp <= 16; ++cp)
    for (int32_t tp = 1; tp <= 16; ++tp) {
      const LayoutOptions options{.tp = tp, .cp = cp};
      if (legal_grid(options, kQwen3Moe)) continue;
      const LayoutOptions nearest = nearest_legal_layout(options, kQwen3Moe);
      const int32_t changed =
          (nearest.tp != tp) + (nearest.cp != cp) + (nearest.moe_dp != 0) + (nearest.ep != 1);
      EXPECT_EQ(changed, 1) << to_flags(options) << " -> " << to_flags(nearest);
    }
}

TEST(LayoutRules, CoordinatesAndGroupsOfTheServingLayout) {
  const Layout layout = make_layout({.tp = 4, .cp = 2, .moe_dp = 2}, kQwen3Moe);
  EXPECT_EQ(layout.coordinates(0), (RankCoordinates{0, 0, 0, 0, 0}));
  EXPECT_EQ(layout.coordinates(1), (RankCoordinates{0, 1, 0, 0, 1}));
  EXPECT_EQ(layout.coordinates(2), (RankCoordinates{1, 0, 1, 0, 0}));
  EXPECT_EQ(layout.coordinates(3), (RankCoordinates{1, 1, 1, 0, 1}));
  EXPECT_EQ(layout.cp_group(3), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(layout.attn_tp_group(3), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(layout.moe_group(3), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(layout.ep_group(3), (std::vector<int32_t>{3}));
  EXPECT_EQ(layout.moe_tp_group(3), (std::vector<int32_t>{2, 3}));
  EXPECT_THROW(layout.coordinates(4), Error);
  EXPECT_THROW(layout.coordinates(-1), Error);
}

TEST(LayoutRules, GroupsPartitionTheRanksByTheirCoordinates) {
  for (int32_t tp = 1; tp <= 16; ++tp)
    for (int32_t cp = 1; cp <= tp; ++cp)
      for (int32_t moe_dp = 1; moe_dp <= cp; ++moe_dp)
        for (int32_t ep = 1; ep <= tp; ++ep) {
          const LayoutOptions options{tp, cp, moe_dp, ep};
          if (!legal_grid(options, kQwen3Moe)) continue;
          const Layout layout = make_layout(options, kQwen3Moe);
          for (int32_t rank = 0; rank < tp; ++rank) {
            const RankCoordinates at = layout.coordinates(rank);
            ASSERT_EQ(rank, at.cp_rank * layout.attn_tp + at.attn_tp_rank);
            ASSERT_EQ(rank, (at.moe_dp_rank * ep + at.ep_rank) * layout.moe_tp + at.moe_tp_rank);
            ASSERT_TRUE(at.ep_rank < ep && at.moe_tp_rank < layout.moe_tp &&
                        at.attn_tp_rank < layout.attn_tp);
            const auto mates = [&](auto same) {
              std::vector<int32_t> ranks;
              for (int32_t other = 0; other < tp; ++other)
                if (same(layout.coordinates(other))) ranks.push_back(other);
              return ranks;
            };
            using C = RankCoordinates;
            ASSERT_EQ(layout.cp_group(rank), mates([&](C c) { return c.attn_tp_rank == at.attn_tp_rank; }));
            ASSERT_EQ(layout.attn_tp_group(rank), mates([&](C c) { return c.cp_rank == at.cp_rank; }));
            ASSERT_EQ(layout.moe_group(rank), mates([&](C c) { return c.moe_dp_rank == at.moe_dp_rank; }));
            ASSERT_EQ(layout.ep_group(rank), mates([&](C c) {
                        return c.moe_dp_rank == at.moe_dp_rank && c.moe_tp_rank == at.moe_tp_rank;
                      }));
            ASSERT_EQ(layout.moe_tp_group(rank),
                      mates([&](C c) { return c.moe_dp_rank == at.moe_dp_rank && c.ep_rank == at.ep_rank; }));
            // A moe group sees the rows of whole cp ranks.
            const auto moe = layout.moe_group(rank);
            for (const int32_t mate : layout.attn_tp_group(rank))
              ASSERT_TRUE(std::ranges::binary_search(moe, mate));
          }
        }
}

}  // namespace
}  // namespace longspan
