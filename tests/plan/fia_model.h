#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "plan/two_launch.h"

namespace longspan {

/// What a query row sees: the keys [0, last_key] of one sequence.
struct Sight {
  int32_t sequence = 0;
  int32_t last_key = 0;

  bool operator==(const Sight&) const = default;
};

/// One fused attention call in bottom-right causal mode, as far as lengths go: batch entry b has the query
/// rows up to actual_seq_lengths[b] (cumulative) and actual_seq_lengths_kv[b] keys. Nothing is returned where
/// the operator refuses: lengths that go down, more queries than keys, or query rows beyond the last length.
inline std::optional<std::vector<Sight>> fia_sights(int64_t query_rows,
                                                    std::span<const int32_t> actual_seq_lengths,
                                                    std::span<const int32_t> actual_seq_lengths_kv) {
  std::vector<Sight> sights;
  int32_t begin = 0;
  for (size_t b = 0; b < actual_seq_lengths.size(); ++b) {
    const int32_t q_len = actual_seq_lengths[b] - begin;
    if (q_len < 0 || q_len > actual_seq_lengths_kv[b]) return std::nullopt;
    for (int32_t i = 0; i < q_len; ++i)
      sights.push_back({static_cast<int32_t>(b), actual_seq_lengths_kv[b] - q_len + i});
    begin = actual_seq_lengths[b];
  }
  if (begin != query_rows) return std::nullopt;
  return sights;
}

/// Both launches of a rank with `local_rows` rows, one after the other.
inline std::optional<std::vector<Sight>> two_launch_sights(const TwoLaunch& form, int64_t local_rows) {
  const auto prev = fia_sights(form.total_q_prev_tokens, std::span(form.cu_seqlens_q_prev).subspan(1),
                               form.kv_len_prev_list);
  const auto next = fia_sights(local_rows - form.total_q_prev_tokens,
                               std::span(form.cu_seqlens_q_next).subspan(1), form.kv_len_next_list);
  if (!prev || !next) return std::nullopt;
  std::vector<Sight> sights = *prev;
  sights.insert(sights.end(), next->begin(), next->end());
  return sights;
}

/// What each local row has to see: its own sequence up to its own position.
inline std::vector<Sight> required_sights(const RankPlan& rank) {
  std::vector<Sight> sights;
  for (size_t i = 0; i < rank.position.size(); ++i) sights.push_back({rank.sequence[i], rank.position[i]});
  return sights;
}

}  // namespace longspan
