#pragma once

#include <cstdint>
#include <vector>

#include "plan/batch.h"
#include "plan/cp_plan.h"
#include "plan/segment.h"

namespace longspan {

/// Where every page is on one cp rank only, a row's keys come in parts: causal over this step's rows, which
/// are gathered for the layer into a scratch pool, and not causal over each owner's pages of earlier tokens.
/// The parts of a row are merged in a fixed order: this step's, then owner 0, 1, ...

/// How the rows of a sequence that is cut meet its earlier keys. A sequence placed whole always sends its few
/// queries: its keys stay where they are.
enum class KvTransfer {
  kGatherKv,  // every rank gets the keys of all owners
  kRing,      // the owners' keys go round, one owner's at a time
  kGatherQ,   // every rank gets all queries and sends back what its own keys make of them
};

struct ShardPolicy {
  KvTransfer transfer = KvTransfer::kGatherKv;
  int32_t round_pages = 1;  // pages of each owner that travel at a time, >= 1
};

/// One launch of attention, with a block table of its own.
struct PartLaunch {
  std::vector<Segment> segments;
  std::vector<int32_t> block_table;  // [rows, max_pages]
  int32_t max_pages = 0;

  bool operator==(const PartLaunch&) const = default;
};

/// Earlier pages that travel together: up to round_pages of each owner.
struct ShardRound {
  std::vector<int32_t> counts;                   // [cp] rows that each owner sends
  std::vector<int32_t> send_slots;               // [counts[rank]] of this rank's own pool
  std::vector<std::vector<int32_t>> recv_slots;  // [cp] of [counts[owner]]: in the scratch pool; own: empty
  std::vector<PartLaunch>
      parts;                   // [cp] by owner, not causal; over the own pool, or the scratch pool for others
  std::vector<int32_t> merge;  // [1 + cp, T_local] rows of the partials, see ShardPlan
};

/// One rank's step. Letters as in cp_plan.h. The ranks' queries, where they travel, lie in rank order.
///
/// Partial results are rows of one matrix: T_local of this step's keys; where there are rounds, T_local for
/// each owner; then, for each owner, one for each of this rank's queries that travel. `merge` lists, for
/// every part of every local row, the row that holds it, or -1.
struct ShardPlan {
  std::vector<int32_t> own_slots;      // [T] of each gathered row: slot in this rank's pool; -1: not its page
  std::vector<int32_t> scratch_slots;  // [T] slot in the scratch pool; -1: no row of this rank sees it
  PartLaunch chunk;                    // causal, over the scratch pool
  int32_t scratch_pages = 1;           // of the scratch pool, page 0 included, that the step uses

  std::vector<ShardRound> rounds;

  std::vector<int32_t> query_rows;    // local rows whose queries travel, ascending
  std::vector<int32_t> query_counts;  // [cp] of every rank
  PartLaunch queries;                 // over all gathered queries and this rank's pool, not causal
  std::vector<int32_t> query_merge;   // [1 + cp, T_local] as ShardRound::merge, where there are no rounds

  int64_t partial_rows = 0;  // of the partials
  int64_t query_base = 0;    // row of the partials where what the owners send back begins
  bool any_queries = false;  // of any rank
  bool needs_merge() const { return any_queries || !rounds.empty(); }
};

/// `batch` has page owners; `plan` was made from its rows. Pure; throws Error(kInternal) if they contradict
/// each other.
ShardPlan plan_shards(const BatchLayout& batch, const CpPlan& plan, int32_t rank, const ShardPolicy& policy);

}  // namespace longspan
