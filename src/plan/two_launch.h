#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/batch.h"
#include "plan/cp_plan.h"

namespace longspan {

/// One rank's view of a plan in the classic form of two attention launches, one over all sequences' prev
/// halves and one over their next halves, under the names used by context parallelism in SGLang and
/// vLLM-Ascend. The engine runs on RankPlan::segments instead; operators that know no segments take this, and
/// tests compare both. Letters as in cp_plan.h. Local rows [0, total_q_prev_tokens) go to the first launch,
/// the others to the second; entry s of a launch has a query length of 0 where this rank has nothing of that
/// half of sequence s.
struct TwoLaunch {
  std::vector<int32_t> split_list;    // [bs*n] block sizes, sequence-major
  std::vector<int32_t> zigzag_index;  // [2*bs] this rank's blocks in split_list: all prevs, then all nexts
  std::vector<int32_t> per_rank_actual_token;  // [cp] rows per rank
  int32_t max_rank_len = 0;                // largest of these: what collectives of equal sizes have to pad to
  std::vector<int32_t> reverse_split_len;  // [bs*n] block sizes as gathered: for each rank prevs, then nexts
  std::vector<int32_t>
      cp_reverse_index;  // [bs*n] where each block of split_list lies among the gathered ones
  std::vector<int32_t> actual_seq_q_prev_list;  // [bs] query rows in the prev half
  std::vector<int32_t> actual_seq_q_next_list;  // [bs] query rows in the next half
  std::vector<int32_t> cu_seqlens_q_prev;       // [bs+1] their prefix sums from 0
  std::vector<int32_t> cu_seqlens_q_next;       // [bs+1]
  std::vector<int32_t> kv_len_prev_list;        // [bs] keys up to the end of block r, prefix included
  std::vector<int32_t> kv_len_next_list;        // [bs] keys up to the end of block n-1-r, prefix included
  int32_t total_q_prev_tokens = 0;              // where the local rows are split between the launches

  bool operator==(const TwoLaunch&) const = default;
};

/// `rows` are those the plan was made from. Pure. Throws Error(kInternal) if they are not, or rank is not in
/// [0, cp).
TwoLaunch two_launch(const CpPlan& plan, std::span<const BatchRow> rows, int32_t rank);

}  // namespace longspan
