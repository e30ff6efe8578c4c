#include "plan/cp_plan.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "plan/zigzag.h"

namespace longspan {
namespace {

int64_t check_rows(std::span<const BatchRow> rows) {
  int64_t total = 0;
  for (const BatchRow& row : rows) {
    check(row.new_tokens >= 1, "a row computes at least one token");
    check(row.prefix_len >= 0, "a prefix is not negative");
    check(row.prefix_len <= std::numeric_limits<int32_t>::max() - row.new_tokens, "positions fit in int32");
    total += row.new_tokens;
  }
  check(total <= std::numeric_limits<int32_t>::max(), "token indices fit in int32");
  return total;
}

/// [bs, n]: sequences long enough are cut, the others placed whole, heaviest first.
std::vector<int32_t> choose_blocks(std::span<const BatchRow> rows, int32_t cp, int32_t min_tokens_to_cut) {
  const int32_t n = 2 * cp;
  std::vector<int32_t> block_len(rows.size() * n, 0);
  std::vector<int64_t> load(cp, 0);                     // causal work by rank
  std::vector<std::pair<int64_t, int32_t>> whole_rows;  // causal work, sequence
  whole_rows.reserve(rows.size());
  for (size_t s = 0; s < rows.size(); ++s) {
    const BatchRow& row = rows[s];
    if (cp == 1 || row.new_tokens < min_tokens_to_cut) {
      whole_rows.emplace_back(causal_area(row.prefix_len, row.new_tokens), static_cast<int32_t>(s));
      continue;
    }
    const std::span<int32_t> blocks(block_len.data() + s * n, n);
    cut_evenly(row.new_tokens, blocks);
    int64_t position = row.prefix_len;
    for (int32_t b = 0; b < n; ++b) {
      load[zigzag_owner(b, cp)] += causal_area(position, blocks[b]);
      position += blocks[b];
    }
  }
  std::sort(whole_rows.begin(), whole_rows.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (const auto& [work, s] : whole_rows) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += work;
    block_len[static_cast<size_t>(s) * n + (least - load.begin())] = rows[s].new_tokens;
  }
  return block_len;
}

/// Walks the blocks in sequence order and keeps, for each, where its tokens begin.
struct BlockStarts {
  std::vector<int32_t> token;     // [bs, n] global token index
  std::vector<int32_t> position;  // [bs, n] position in the sequence
};

BlockStarts block_starts(std::span<const BatchRow> rows, std::span<const int32_t> block_len, int32_t n) {
  BlockStarts starts{std::vector<int32_t>(block_len.size()), std::vector<int32_t>(block_len.size())};
  int32_t token = 0;
  for (size_t s = 0; s < rows.size(); ++s) {
    int32_t position = rows[s].prefix_len;
    for (size_t i = s * n; i < (s + 1) * n; ++i) {
      starts.token[i] = token;
      starts.position[i] = position;
      token += block_len[i];
      position += block_len[i];
    }
  }
  return starts;
}

/// Appends one block to the local rows of its rank.
void append_block(RankPlan& plan, int32_t sequence, int32_t token, int32_t position, int32_t len) {
  const size_t begin = plan.token_index.size();
  plan.token_index.resize(begin + len);
  plan.position.resize(begin + len);
  plan.sequence.resize(begin + len, sequence);
  for (int32_t i = 0; i < len; ++i) {
    plan.token_index[begin + i] = token + i;
    plan.position[begin + i] = position + i;
  }
  plan.segments.push_back({static_cast<int32_t>(begin), len, sequence, position + len, true});
  plan.causal_work += causal_area(position, len);
}

}  // namespace

std::vector<int32_t> CpPlan::tokens_of_ranks() const {
  const size_t n = 2 * static_cast<size_t>(cp), bs = block_len.size() / n;
  std::vector<int32_t> tokens;
  for (size_t s = 0; s < bs; ++s) {
    for (size_t r = 0; r < static_cast<size_t>(cp); ++r)
      tokens.push_back(block_len[s * n + r] + block_len[s * n + n - 1 - r]);
  }
  return tokens;
}

std::vector<int32_t> CpPlan::rank_counts() const {
  std::vector<int32_t> counts;
  counts.reserve(ranks.size());
  for (const RankPlan& rank : ranks) counts.push_back(static_cast<int32_t>(rank.token_index.size()));
  return counts;
}

std::vector<int32_t> CpPlan::gather_order() const {
  size_t total = 0;
  for (const RankPlan& rank : ranks) total += rank.token_index.size();
  std::vector<int32_t> order;
  order.reserve(total);
  for (const RankPlan& rank : ranks)
    order.insert(order.end(), rank.token_index.begin(), rank.token_index.end());
  return order;
}

CpPlan plan_context_parallel(std::span<const BatchRow> rows, int32_t cp, const CpPolicy& policy) {
  check(cp >= 1 && cp <= std::numeric_limits<int32_t>::max() / 2, "cp is at least 1");
  const int64_t tokens_of_step = check_rows(rows);
  const int32_t n = 2 * cp;
  const int32_t bs = static_cast<int32_t>(rows.size());

  CpPlan plan;
  plan.cp = cp;
  const int32_t min_tokens_to_cut = tokens_of_step < int64_t{policy.min_tokens_per_rank} * cp
                                        ? std::numeric_limits<int32_t>::max()
                                        : std::max(policy.min_tokens_to_cut, n);
  plan.block_len = choose_blocks(rows, cp, min_tokens_to_cut);
  plan.ranks.resize(cp);
  plan.last_token.resize(bs);
  const BlockStarts starts = block_starts(rows, plan.block_len, n);

  for (int32_t r = 0; r < cp; ++r) {
    RankPlan& rank = plan.ranks[r];
    size_t tokens = 0, segments = 0;
    for (size_t i = r; i < plan.block_len.size(); i += n) {
      const int32_t prev = plan.block_len[i];
      const int32_t next = plan.block_len[i + n - 1 - 2 * r];
      tokens += prev + next;
      segments += (prev > 0) + (next > 0);
    }
    rank.token_index.reserve(tokens);
    rank.position.reserve(tokens);
    rank.sequence.reserve(tokens);
    rank.segments.reserve(segments);

    for (const int32_t block : {r, n - 1 - r}) {
      for (int32_t s = 0; s < bs; ++s) {
        const size_t i = static_cast<size_t>(s) * n + block;
        const int32_t len = plan.block_len[i];
        if (len == 0) continue;
        append_block(rank, s, starts.token[i], starts.position[i], len);
        if (starts.position[i] + len == rows[s].prefix_len + rows[s].new_tokens)
          plan.last_token[s] = {r, static_cast<int32_t>(rank.token_index.size()) - 1};
        plan.any_cut |= len < rows[s].new_tokens;
      }
      if (block == r) rank.total_q_prev_tokens = static_cast<int32_t>(rank.token_index.size());
    }
  }
  return plan;
}

}  // namespace longspan
