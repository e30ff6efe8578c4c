#include "plan/shard_plan.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/check.h"

namespace longspan {
namespace {

/// A page of earlier tokens on its owner.
struct EarlierPage {
  int32_t sequence;
  int32_t local;   // page of the owner's pool
  int32_t tokens;  // 1..page_size
};

struct Run {
  int32_t pages = 0, tokens = 0;
};

class ShardPlanner {
 public:
  ShardPlanner(const BatchLayout& batch, const CpPlan& plan, int32_t rank, const ShardPolicy& policy)
      : batch_(batch), plan_(plan), rank_(rank), policy_(policy), mine_(plan.ranks[rank]) {
    const size_t bs = batch.rows.size(), cells = bs * static_cast<size_t>(batch.max_pages);
    check(batch.page_owner.size() == cells && batch.block_table.size() == cells, "every page has an owner");
    check(plan.block_len.size() == bs * 2 * static_cast<size_t>(plan.cp), "the plan is of this batch");
    check(policy.round_pages >= 1, "a round has pages");
    for (size_t s = 0; s < bs; ++s) {
      const auto* blocks = plan.block_len.data() + s * 2 * static_cast<size_t>(plan.cp);
      const bool whole =
          std::find(blocks, blocks + 2 * plan.cp, batch.rows[s].new_tokens) != blocks + 2 * plan.cp;
      const bool earlier = batch.rows[s].prefix_len > 0;
      sends_keys_.push_back(earlier && !whole && policy.transfer != KvTransfer::kGatherQ);
      sends_queries_.push_back(earlier && !sends_keys_.back());
    }
  }

  ShardPlan make() {
    place_chunk();
    gather_queries();
    make_rounds();
    const auto rows = static_cast<int64_t>(mine_.token_index.size());
    result_.query_base = rows * (result_.rounds.empty() ? 1 : 1 + plan_.cp);
    result_.partial_rows = result_.query_base + plan_.cp * std::ssize(result_.query_rows);
    if (result_.rounds.empty() && result_.any_queries) result_.query_merge = merge_of(nullptr, true);
    for (size_t i = 0; i < result_.rounds.size(); ++i)
      result_.rounds[i].merge = merge_of(&result_.rounds[i], i == 0);
    return std::move(result_);
  }

 private:
  int32_t tokens_of_page(int32_t sequence, int32_t page) const {
    return std::min(batch_.page_size, batch_.rows[sequence].prefix_len - page * batch_.page_size);
  }

  /// Owner by owner the pages of earlier tokens of the sequences that `wanted` names, in their order.
  std::vector<std::vector<EarlierPage>> earlier_pages(const std::vector<char>& wanted) const {
    std::vector<std::vector<EarlierPage>> pages(plan_.cp);
    for (int32_t s = 0; s < std::ssize(batch_.rows); ++s) {
      if (!wanted[s]) continue;
      for (int32_t i = 0; int64_t{i} * batch_.page_size < batch_.rows[s].prefix_len; ++i) {
        const size_t cell = static_cast<size_t>(s) * batch_.max_pages + i;
        const int32_t owner = batch_.page_owner[cell];
        check(owner >= 0 && owner < plan_.cp, "a page's owner is a cp rank");
        pages[owner].push_back({s, batch_.block_table[cell], tokens_of_page(s, i)});
      }
    }
    return pages;
  }

  // This step's rows: each goes to its page's owner, and to the scratch pool of every rank that attends to
  // it.
  void place_chunk() {
    std::vector<char> here(batch_.rows.size(), false);
    for (const Segment& segment : mine_.segments) here[segment.block_table_row] = true;
    PartLaunch& chunk = result_.chunk;
    std::vector<int32_t> first_page(batch_.rows.size(), 0);
    for (size_t s = 0; s < batch_.rows.size(); ++s) {
      if (!here[s]) continue;
      const int32_t pages = (batch_.rows[s].new_tokens + batch_.page_size - 1) / batch_.page_size;
      first_page[s] = result_.scratch_pages;
      result_.scratch_pages += pages;
      chunk.max_pages = std::max(chunk.max_pages, pages);
    }
    chunk.block_table.resize(batch_.rows.size() * static_cast<size_t>(chunk.max_pages), 0);
    for (size_t s = 0; s < batch_.rows.size(); ++s)
      if (here[s]) {
        const int32_t pages = (batch_.rows[s].new_tokens + batch_.page_size - 1) / batch_.page_size;
        const auto row = chunk.block_table.begin() + static_cast<std::ptrdiff_t>(s) * chunk.max_pages;
        std::iota(row, row + pages, first_page[s]);
      }
    for (Segment segment : mine_.segments) {
      segment.kv_len -= batch_.rows[segment.block_table_row].prefix_len;
      chunk.segments.push_back(segment);
    }
    for (const RankPlan& from : plan_.ranks) {
      for (size_t i = 0; i < from.position.size(); ++i) {
        const int32_t s = from.sequence[i], position = from.position[i];
        const int32_t offset = position - batch_.rows[s].prefix_len;
        result_.own_slots.push_back(batch_.owner(s, position) == rank_ ? batch_.slot(s, position) : -1);
        result_.scratch_slots.push_back(here[s] ? first_page[s] * batch_.page_size + offset : -1);
      }
    }
  }

  void gather_queries() {
    const auto pages = earlier_pages(sends_queries_)[rank_];
    result_.queries = table_of(pages);
    std::vector<Run> runs(batch_.rows.size());
    for (const EarlierPage& page : pages) runs[page.sequence].tokens += page.tokens;
    int32_t row = 0;
    for (int32_t r = 0; r < plan_.cp; ++r) {
      int32_t count = 0;
      for (const Segment& segment : plan_.ranks[r].segments) {
        if (!sends_queries_[segment.block_table_row]) continue;
        // A rank without pages of the sequence says so: it sees no key.
        result_.queries.segments.push_back({row, segment.q_len, segment.block_table_row,
                                            runs[segment.block_table_row].tokens, /*causal=*/false});
        for (int32_t i = 0; r == rank_ && i < segment.q_len; ++i)
          result_.query_rows.push_back(segment.q_begin + i);
        row += segment.q_len;
        count += segment.q_len;
      }
      result_.query_counts.push_back(count);
    }
    result_.any_queries = row > 0;
  }

  /// A block table with a row for every sequence that lists its `pages` in order.
  PartLaunch table_of(std::span<const EarlierPage> pages) const {
    PartLaunch launch;
    std::vector<int32_t> count(batch_.rows.size(), 0);
    for (const EarlierPage& page : pages)
      launch.max_pages = std::max(launch.max_pages, ++count[page.sequence]);
    launch.max_pages = std::max(launch.max_pages, 1);
    launch.block_table.resize(batch_.rows.size() * static_cast<size_t>(launch.max_pages), 0);
    std::fill(count.begin(), count.end(), 0);
    for (const EarlierPage& page : pages)
      launch.block_table[static_cast<size_t>(page.sequence) * launch.max_pages + count[page.sequence]++] =
          page.local;
    return launch;
  }

  void make_rounds() {
    const auto pages = earlier_pages(sends_keys_);
    size_t most = 0;
    for (const auto& of_owner : pages) most = std::max(most, of_owner.size());
    const auto each = static_cast<size_t>(policy_.round_pages);
    const int32_t chunk_pages = result_.scratch_pages;
    for (size_t begin = 0; begin < most; begin += each) {
      ShardRound& round = result_.rounds.emplace_back();
      int32_t next_page = chunk_pages;
      for (int32_t owner = 0; owner < plan_.cp; ++owner) {
        const size_t first = std::min(begin, pages[owner].size());
        const size_t last = std::min(begin + each, pages[owner].size());
        if (policy_.transfer == KvTransfer::kRing) next_page = chunk_pages;  // one owner's at a time
        add_part(round, owner, std::span(pages[owner]).subspan(first, last - first), next_page);
      }
    }
  }

  // What `owner` sends in a round, where it lands here, and which rows of this rank attend to it.
  void add_part(ShardRound& round, int32_t owner, std::span<const EarlierPage> sent, int32_t& next_page) {
    std::vector<EarlierPage> pages(sent.begin(), sent.end());
    std::vector<int32_t> slots;
    std::vector<Run> runs(batch_.rows.size());
    for (EarlierPage& page : pages) {
      if (owner != rank_) page.local = next_page++;
      for (int32_t i = 0; i < page.tokens; ++i) slots.push_back(page.local * batch_.page_size + i);
      ++runs[page.sequence].pages;
      runs[page.sequence].tokens += page.tokens;
    }
    result_.scratch_pages = std::max(result_.scratch_pages, next_page);
    round.counts.push_back(static_cast<int32_t>(slots.size()));
    PartLaunch& part = round.parts.emplace_back(table_of(pages));
    for (const Segment& segment : mine_.segments) {
      const Run& run = runs[segment.block_table_row];
      if (run.pages > 0)
        part.segments.push_back(
            {segment.q_begin, segment.q_len, segment.block_table_row, run.tokens, /*causal=*/false});
    }
    round.recv_slots.emplace_back();
    (owner == rank_ ? round.send_slots : round.recv_slots.back()) = std::move(slots);
  }

  std::vector<int32_t> merge_of(const ShardRound* round, bool with_queries) const {
    const auto rows = static_cast<int32_t>(mine_.token_index.size());
    std::vector<int32_t> merge(static_cast<size_t>(rows) * (1 + plan_.cp), -1);
    std::iota(merge.begin(), merge.begin() + rows, 0);
    for (int32_t owner = 0; owner < plan_.cp; ++owner) {
      const int32_t begin = (1 + owner) * rows;
      if (round)
        for (const Segment& segment : round->parts[owner].segments)
          std::iota(merge.begin() + begin + segment.q_begin,
                    merge.begin() + begin + segment.q_begin + segment.q_len, begin + segment.q_begin);
      const auto queries = static_cast<int32_t>(result_.query_rows.size());
      for (int32_t i = 0; with_queries && i < queries; ++i)
        merge[begin + result_.query_rows[i]] = static_cast<int32_t>(result_.query_base) + owner * queries + i;
    }
    return merge;
  }

  const BatchLayout& batch_;
  const CpPlan& plan_;
  const int32_t rank_;
  const ShardPolicy policy_;
  const RankPlan& mine_;
  std::vector<char> sends_keys_, sends_queries_;  // [bs]
  ShardPlan result_;
};

}  // namespace

ShardPlan plan_shards(const BatchLayout& batch, const CpPlan& plan, int32_t rank, const ShardPolicy& policy) {
  check(rank >= 0 && rank < plan.cp, "a cp rank of the plan");
  return ShardPlanner(batch, plan, rank, policy).make();
}

}  // namespace longspan
