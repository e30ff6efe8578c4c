#include "plan/two_launch.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "plan/zigzag.h"

namespace longspan {
namespace {

std::vector<int32_t> prefix_sums(std::span<const int32_t> lengths) {
  std::vector<int32_t> sums(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), sums.begin() + 1);
  return sums;
}

}  // namespace

TwoLaunch two_launch(const CpPlan& plan, std::span<const BatchRow> rows, int32_t rank) {
  const int32_t cp = plan.cp, n = 2 * cp;
  const int32_t bs = static_cast<int32_t>(rows.size());
  check(plan.block_len.size() == rows.size() * n, "the plan was made from these rows");
  check(rank >= 0 && rank < cp, "the rank is in the context-parallel group");
  const auto block_len = [&](int32_t s, int32_t b) { return plan.block_len[static_cast<size_t>(s) * n + b]; };

  TwoLaunch form;
  form.split_list = plan.block_len;

  form.per_rank_actual_token.assign(cp, 0);
  form.cp_reverse_index.resize(plan.block_len.size());
  form.reverse_split_len.resize(plan.block_len.size());
  for (int32_t s = 0; s < bs; ++s)
    for (int32_t b = 0; b < n; ++b) {
      const int32_t owner = zigzag_owner(b, cp);
      const int32_t gathered = (2 * owner + (b < cp ? 0 : 1)) * bs + s;
      form.per_rank_actual_token[owner] += block_len(s, b);
      form.cp_reverse_index[s * n + b] = gathered;
      form.reverse_split_len[gathered] = block_len(s, b);
    }
  form.max_rank_len = *std::ranges::max_element(form.per_rank_actual_token);

  const auto half = [&](int32_t block, std::vector<int32_t>& q_len, std::vector<int32_t>& kv_len) {
    for (int32_t s = 0; s < bs; ++s) {
      form.zigzag_index.push_back(s * n + block);
      q_len.push_back(block_len(s, block));
      int32_t end = rows[s].prefix_len;
      for (int32_t b = 0; b <= block; ++b) end += block_len(s, b);
      kv_len.push_back(end);
    }
  };
  half(rank, form.actual_seq_q_prev_list, form.kv_len_prev_list);
  half(n - 1 - rank, form.actual_seq_q_next_list, form.kv_len_next_list);
  form.cu_seqlens_q_prev = prefix_sums(form.actual_seq_q_prev_list);
  form.cu_seqlens_q_next = prefix_sums(form.actual_seq_q_next_list);
  form.total_q_prev_tokens = form.cu_seqlens_q_prev.back();
  return form;
}

}  // namespace longspan
