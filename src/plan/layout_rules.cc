#include "plan/layout_rules.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <tuple>

#include "base/check.h"

namespace longspan {
namespace {

/// The largest divisor of cp for which moe_dp * ep divides tp; 1 where ep itself does not.
int32_t automatic_moe_dp(int32_t tp, int32_t cp, int32_t ep) {
  return tp % ep == 0 ? std::gcd(cp, tp / ep) : 1;
}

/// Fills in the open values. Legal only if no rule is broken.
Layout resolve(const LayoutOptions& options) {
  Layout grid;
  grid.cp = options.cp;
  grid.ep = options.ep;
  grid.tp = options.tp == 0 ? options.cp : options.tp;
  grid.attn_tp = grid.tp / grid.cp;
  grid.moe_dp = options.moe_dp == 0 ? automatic_moe_dp(grid.tp, grid.cp, grid.ep) : options.moe_dp;
  const int64_t copies = static_cast<int64_t>(grid.moe_dp) * grid.ep;
  grid.moe_tp = static_cast<int32_t>(std::max<int64_t>(1, grid.tp / copies));
  return grid;
}

enum class Rule {
  kNone,
  kPositive,
  kMaxRanks,
  kWholeAttnTp,
  kMoeDpDividesCp,
  kWholeMoeTp,
  kHeadsQ,
  kHeadsKv,
  kMlpWidth,
  kVocab,
  kEpNeedsExperts,
  kEpExperts,
  kExpertWidth,
  kSharedExpertWidth,
};

/// The first rule that `options` break.
Rule broken_rule(const LayoutOptions& options, const LayoutModel& model) {
  if (options.tp < 0 || options.cp < 1 || options.moe_dp < 0 || options.ep < 1) return Rule::kPositive;
  if (std::max({options.tp, options.cp, options.moe_dp, options.ep}) > kMaxRanks) return Rule::kMaxRanks;
  const Layout grid = resolve(options);
  if (grid.tp % grid.cp != 0) return Rule::kWholeAttnTp;
  if (grid.cp % grid.moe_dp != 0) return Rule::kMoeDpDividesCp;
  if (grid.tp % (grid.moe_dp * grid.ep) != 0) return Rule::kWholeMoeTp;
  if (model.heads_q % grid.attn_tp != 0) return Rule::kHeadsQ;
  if (model.heads_kv % grid.attn_tp != 0 && grid.attn_tp % model.heads_kv != 0) return Rule::kHeadsKv;
  if (model.mlp_width % grid.attn_tp != 0) return Rule::kMlpWidth;
  if (model.vocab < grid.attn_tp) return Rule::kVocab;
  if (model.experts == 0) return grid.ep > 1 ? Rule::kEpNeedsExperts : Rule::kNone;
  if (grid.ep > model.experts) return Rule::kEpExperts;
  if (model.expert_width % grid.moe_tp != 0) return Rule::kExpertWidth;
  if (model.shared_expert_width % grid.moe_tp != 0) return Rule::kSharedExpertWidth;
  return Rule::kNone;
}

/// The rule and the values that break it.
std::string explain(Rule rule, const LayoutOptions& options, const LayoutModel& model) {
  if (rule == Rule::kPositive)
    return fmt::format(
        "cp and ep are at least 1, tp and moe-dp at least 0 (automatic): tp {}, cp {}, moe-dp {}, ep {}",
        options.tp, options.cp, options.moe_dp, options.ep);
  if (rule == Rule::kMaxRanks)
    return fmt::format("there are at most {} ranks: tp {}, cp {}, moe-dp {}, ep {}", kMaxRanks, options.tp,
                       options.cp, options.moe_dp, options.ep);
  const Layout grid = resolve(options);
  const std::string attn_tp = fmt::format("attn-tp {} (tp {} / cp {})", grid.attn_tp, grid.tp, grid.cp);
  const std::string moe_tp =
      fmt::format("moe-tp {} (tp {} / moe-dp {} / ep {})", grid.moe_tp, grid.tp, grid.moe_dp, grid.ep);
  switch (rule) {
    case Rule::kWholeAttnTp:
      return fmt::format("cp must divide tp (tp = cp x attn-tp): tp {}, cp {}", grid.tp, grid.cp);
    case Rule::kMoeDpDividesCp:
      return fmt::format("moe-dp must divide cp: moe-dp {}, cp {}", grid.moe_dp, grid.cp);
    case Rule::kWholeMoeTp:
      return fmt::format("moe-dp x ep must divide tp (tp = moe-dp x ep x moe-tp): tp {}, moe-dp {}, ep {}",
                         grid.tp, grid.moe_dp, grid.ep);
    case Rule::kHeadsQ:
      return fmt::format("attn-tp must divide the query heads: {}, {} heads", attn_tp, model.heads_q);
    case Rule::kHeadsKv:
      return fmt::format("attn-tp must divide the KV heads or be a multiple of them: {}, {} heads", attn_tp,
                         model.heads_kv);
    case Rule::kMlpWidth:
      return fmt::format("attn-tp must divide the MLP width: {}, width {}", attn_tp, model.mlp_width);
    case Rule::kVocab:
      return fmt::format("attn-tp can't exceed the vocabulary: {}, {} tokens", attn_tp, model.vocab);
    case Rule::kEpNeedsExperts:
      return fmt::format("ep needs a model with experts: ep {}, a dense model", grid.ep);
    case Rule::kEpExperts:
      return fmt::format("ep can't exceed the experts of a layer: ep {}, {} experts", grid.ep, model.experts);
    case Rule::kExpertWidth:
      return fmt::format("moe-tp must divide the expert width: {}, width {}", moe_tp, model.expert_width);
    case Rule::kSharedExpertWidth:
      return fmt::format("moe-tp must divide the shared expert's width: {}, width {}", moe_tp,
                         model.shared_expert_width);
    default:
      check(false, "every rule has its explanation");
      return {};
  }
}

/// How far one set of options is from another; smaller is nearer.
auto distance(const LayoutOptions& from, const LayoutOptions& to) {
  const auto changed = [](int32_t a, int32_t b) { return a != b ? 1 : 0; };
  const auto apart = [](int64_t a, int64_t b) { return std::abs(a - b); };
  const int32_t from_tp = from.tp == 0 ? from.cp : from.tp;
  const int32_t to_tp = to.tp == 0 ? to.cp : to.tp;
  const int32_t flags = changed(from.tp, to.tp) + changed(from.cp, to.cp) + changed(from.moe_dp, to.moe_dp) +
                        changed(from.ep, to.ep);
  const int64_t steps =
      apart(from_tp, to_tp) + apart(from.cp, to.cp) + apart(from.moe_dp, to.moe_dp) + apart(from.ep, to.ep);
  return std::make_tuple(flags, steps, apart(from_tp, to_tp), -to.cp);
}

template <typename Visit>
void for_each_divisor(int32_t number, Visit visit) {
  for (int32_t d = 1; d <= number; ++d)
    if (number % d == 0) visit(d);
}

std::vector<int32_t> ranks_from(int32_t first, int32_t count, int32_t stride) {
  std::vector<int32_t> ranks(count);
  for (int32_t i = 0; i < count; ++i) ranks[i] = first + i * stride;
  return ranks;
}

}  // namespace

RankCoordinates Layout::coordinates(int32_t rank) const {
  check(rank >= 0 && rank < tp, "a rank of the layout");
  return {rank / attn_tp, rank % attn_tp, rank / (ep * moe_tp), rank / moe_tp % ep, rank % moe_tp};
}

std::vector<int32_t> Layout::cp_group(int32_t rank) const {
  return ranks_from(coordinates(rank).attn_tp_rank, cp, attn_tp);
}

std::vector<int32_t> Layout::attn_tp_group(int32_t rank) const {
  return ranks_from(coordinates(rank).cp_rank * attn_tp, attn_tp, 1);
}

std::vector<int32_t> Layout::moe_group(int32_t rank) const {
  return ranks_from(coordinates(rank).moe_dp_rank * ep * moe_tp, ep * moe_tp, 1);
}

std::vector<int32_t> Layout::ep_group(int32_t rank) const {
  const RankCoordinates at = coordinates(rank);
  return ranks_from(at.moe_dp_rank * ep * moe_tp + at.moe_tp_rank, ep, moe_tp);
}

std::vector<int32_t> Layout::moe_tp_group(int32_t rank) const {
  return ranks_from(rank - coordinates(rank).moe_tp_rank, moe_tp, 1);
}

bool has_whole_ranks(const Layout& layout, const LayoutModel& model) {
  return layout.attn_tp == 1 && (model.experts == 0 || layout.moe_dp == layout.cp);
}

Layout make_layout(const LayoutOptions& options, const LayoutModel& model) {
  const Rule rule = broken_rule(options, model);
  if (rule == Rule::kNone) return resolve(options);
  throw Error(ErrorCode::kUsage,
              fmt::format("illegal layout: {}; nearest legal setting: {}", explain(rule, options, model),
                          to_flags(nearest_legal_layout(options, model))));
}

LayoutOptions nearest_legal_layout(const LayoutOptions& options, const LayoutModel& model) {
  LayoutOptions best{.tp = 0, .cp = 1, .moe_dp = 0, .ep = 1};  // one rank is always legal
  const auto consider = [&](const LayoutOptions& candidate) {
    if (distance(options, candidate) < distance(options, best) &&
        broken_rule(candidate, model) == Rule::kNone)
      best = candidate;
  };
  const int64_t largest = std::max({options.tp, options.cp, options.moe_dp, options.ep, 1});
  const int32_t most_ranks = static_cast<int32_t>(std::min<int64_t>(2 * largest, kMaxRanks));
  for (int32_t tp = 1; tp <= most_ranks; ++tp)
    for_each_divisor(tp, [&](int32_t cp) {
      const int32_t as_typed = options.tp == 0 && tp == cp ? 0 : tp;
      if (distance(options, {as_typed, cp, options.moe_dp, options.ep}) >= distance(options, best)) return;
      if (options.moe_dp == 0) for_each_divisor(tp, [&](int32_t ep) { consider({as_typed, cp, 0, ep}); });
      for_each_divisor(cp, [&](int32_t moe_dp) {
        for_each_divisor(tp / moe_dp, [&](int32_t ep) { consider({as_typed, cp, moe_dp, ep}); });
      });
    });
  return best;
}

std::string to_flags(const LayoutOptions& options) {
  std::string flags;
  if (options.tp != 0) flags += fmt::format("--tp {} ", options.tp);
  flags += fmt::format("--cp {}", options.cp);
  if (options.moe_dp != 0) flags += fmt::format(" --moe-dp {}", options.moe_dp);
  if (options.ep != 1) flags += fmt::format(" --ep {}", options.ep);
  return flags;
}

}  // namespace longspan
