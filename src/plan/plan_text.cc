#include "plan/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "plan/zigzag.h"

namespace longspan {
namespace {

constexpr std::string_view kRankLabel = "  rank    ";
constexpr std::string_view kTokensLabel = "  tokens  ";
constexpr std::string_view kKeysLabel = "  keys    ";
constexpr int32_t kLabelWidth = static_cast<int32_t>(kRankLabel.size());

int32_t digits(int64_t number) {
  return static_cast<int32_t>(fmt::formatted_size("{}", number));
}

/// The blocks of one cut sequence as a bar of cells, in as many lines as the width asks for.
void draw_blocks(std::string& text, const BatchRow& row, std::span<const int32_t> blocks, int32_t cp,
                 int32_t width) {
  const int32_t last_key = row.prefix_len + row.new_tokens;
  const int32_t cell = std::max({digits(last_key), digits(blocks[0]), digits(cp - 1)}) + 2;
  const int32_t n = static_cast<int32_t>(blocks.size());
  const int32_t per_line = std::clamp((width - kLabelWidth - 1) / (cell + 1), 1, n);
  int32_t keys = row.prefix_len;
  for (int32_t first = 0; first < n; first += per_line) {
    const int32_t end = std::min(n, first + per_line);
    std::string rule(kLabelWidth, ' '), ranks(kRankLabel), tokens(kTokensLabel), ends(kKeysLabel);
    for (int32_t b = first; b < end; ++b) {
      keys += blocks[b];
      rule += fmt::format("+{:-<{}}", "", cell);
      ranks += fmt::format("|{:^{}}", zigzag_owner(b, cp), cell);
      tokens += fmt::format("|{:^{}}", blocks[b], cell);
      ends += fmt::format("|{:^{}}", keys, cell);
    }
    text += fmt::format("{0}+\n{1}|\n{2}|\n{3}|\n{0}+\n", rule, ranks, tokens, ends);
  }
}

std::string draw_sequence(int32_t s, const BatchRow& row, const CpPlan& plan, int32_t width) {
  const int32_t n = 2 * plan.cp;
  const std::span<const int32_t> blocks(plan.block_len.data() + static_cast<size_t>(s) * n, n);
  std::string text = fmt::format("sequence {}: {} new + {} cached, ", s, row.new_tokens, row.prefix_len);
  const auto whole = std::ranges::find(blocks, row.new_tokens);
  if (whole != blocks.end()) {
    text += fmt::format("whole on rank {}\n",
                        zigzag_owner(static_cast<int32_t>(whole - blocks.begin()), plan.cp));
    return text;
  }
  text += fmt::format("in {} blocks\n", n);
  draw_blocks(text, row, blocks, plan.cp, width);
  return text;
}

/// One line a rank, with a bar as long as its share of the slowest rank's work.
std::string draw_ranks(const CpPlan& plan, const PlanCost& cost, int32_t width) {
  double slowest = 0;
  for (const RankCost& rank : cost.ranks) slowest = std::max(slowest, rank.total());
  std::string text = fmt::format("{:>4} {:>10} {:>10} {:>10}  {:>9}  {:>6}  \n", "rank", "tokens", "prev",
                                 "next", "GFLOP", "share");
  const int32_t bar_width = width - static_cast<int32_t>(text.size()) + 1;
  for (size_t r = 0; r < cost.ranks.size(); ++r) {
    const double work = cost.ranks[r].total();
    const int64_t prev = plan.ranks[r].total_q_prev_tokens;
    const int32_t bar = slowest > 0 ? static_cast<int32_t>(bar_width * work / slowest + 0.5) : 0;
    text += fmt::format("{:>4} {:>10} {:>10} {:>10}  {:>9.4g}  {:>5.1f}%  {:#<{}}\n", r, cost.ranks[r].rows,
                        prev, cost.ranks[r].rows - prev, work / 1e9,
                        cost.total_flops > 0 ? 100 * work / cost.total_flops : 0.0, "", bar);
  }
  return text;
}

}  // namespace

std::string draw_plan(std::span<const BatchRow> rows, const CpPlan& plan, const PlanCost& cost,
                      int32_t width) {
  check(plan.block_len.size() == rows.size() * 2 * plan.cp, "the plan was made from these rows");
  check(cost.ranks.size() == plan.ranks.size(), "the cost was made from this plan");
  width = std::max(width, kMinPlanTextWidth);
  std::string text;
  for (size_t s = 0; s < rows.size(); ++s)
    text += draw_sequence(static_cast<int32_t>(s), rows[s], plan, width);
  if (!rows.empty()) text += '\n';
  text += draw_ranks(plan, cost, width);
  text += fmt::format("imbalance {:.3f} (slowest rank / mean), {:.4g} GFLOP in all\n", cost.imbalance,
                      cost.total_flops / 1e9);
  return text;
}

}  // namespace longspan
