#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/batch.h"
#include "plan/segment.h"

namespace longspan {

/// Letters: bs sequences; cp ranks; n = 2*cp blocks a sequence; L_s new tokens, P_s prefix; T = sum of L_s.
/// "Global token index" g: position in the step's tokens, sequence-major, 0..T-1.

struct CpPolicy {
  /// A sequence with fewer new tokens is placed whole on the least-loaded rank. Never below 2*cp.
  int32_t min_tokens_to_cut = 0;
  /// Where a step has fewer new tokens than this for each rank, every sequence is placed whole.
  int32_t min_tokens_per_rank = 0;
};

/// What one rank does in a step. Its local rows lie [all prev halves | all next halves], sequences ascending
/// in each half; a sequence placed whole lies among the prevs.
struct RankPlan {
  std::vector<int32_t> token_index;  // [T_local] global token index of each local row
  std::vector<int32_t> position;     // [T_local] position of each local row in its sequence (prefix included)
  std::vector<int32_t> sequence;     // [T_local] sequence of each local row
  std::vector<Segment> segments;     // <= 2*bs, in local row order, none empty, covering every local row
  int32_t total_q_prev_tokens = 0;   // local rows before the first next half: the split point
  int64_t causal_work = 0;           // sum over local rows of the keys each sees

  bool operator==(const RankPlan&) const = default;
};

/// Where a sequence's last token of this step is computed.
struct RowLocation {
  int32_t rank = 0;
  int32_t local_row = 0;

  bool operator==(const RowLocation&) const = default;
};

/// The whole of context parallelism's arithmetic for one step; the same on every rank; knows no device.
struct CpPlan {
  int32_t cp = 1;
  std::vector<int32_t> block_len;  // [bs, n] tokens of each zigzag block ("split_list"); all of a sequence
                                   // placed whole on rank r stands in its block r
  std::vector<RankPlan> ranks;     // [cp]
  std::vector<RowLocation> last_token;  // [bs]
  bool any_cut = false;                 // some sequence is spread over several ranks

  /// New tokens of each sequence that each rank computes: [bs, cp].
  std::vector<int32_t> tokens_of_ranks() const;
  /// Rows each rank contributes to the KV gather, in rank order: [cp] ("per_rank_actual_token").
  std::vector<int32_t> rank_counts() const;
  /// Global token index of each row of the gather's receive buffer (rank-major, exact counts): [T].
  /// A row's page slot follows from it directly; there is no reorder pass.
  std::vector<int32_t> gather_order() const;

  bool operator==(const CpPlan&) const = default;
};

/// Cuts every sequence's new tokens into 2*cp blocks, of which rank r owns blocks r ("prev") and 2*cp-1-r
/// ("next"); sequences too short to cut go whole to the rank with the least causal work so far (the
/// heaviest first, ties to the lowest rank); at cp = 1 nothing is cut. Pure; throws Error(kInternal) for a
/// row with new_tokens < 1, prefix_len < 0 or more than 2^31 - 1 tokens in all, or cp < 1. Zigzag: design as
/// in ring-flash-attention and Llama 3 (arXiv 2407.21783, section 3.3.2).
CpPlan plan_context_parallel(std::span<const BatchRow> rows, int32_t cp, const CpPolicy& policy);

}  // namespace longspan
