#pragma once

#include <longspan/layout.h>

#include <cstdint>
#include <string>
#include <vector>

namespace longspan {

/// What the layout rules need to know of a model.
struct LayoutModel {
  int32_t heads_q = 1;              // Hq
  int32_t heads_kv = 1;             // Hk
  int32_t experts = 0;              // routed experts of a layer; 0: the model is dense
  int32_t experts_per_token = 0;    // k
  int64_t hidden = 0;               // H
  int64_t expert_width = 0;         // intermediate size of one expert
  int64_t shared_expert_width = 0;  // 0: none; split like the routed ones
  int64_t mlp_width = 0;            // intermediate size of dense layers; 0: there are none
  int64_t vocab = 1;                // split over attn_tp, unevenly if need be
};

/// Where a rank stands in both grids.
struct RankCoordinates {
  int32_t cp_rank = 0, attn_tp_rank = 0;                  // attention
  int32_t moe_dp_rank = 0, ep_rank = 0, moe_tp_rank = 0;  // experts

  bool operator==(const RankCoordinates&) const = default;
};

/// The process grid: the same ranks arranged twice, once for attention, once for the experts.
///   rank = cp_rank * attn_tp + attn_tp_rank = (moe_dp_rank * ep + ep_rank) * moe_tp + moe_tp_rank
/// Made by make_layout only, so it is always legal. A group lists its ranks in ascending order; it is named
/// by any of its members.
struct Layout {
  int32_t tp = 1;  // ranks in all
  int32_t attn_dp = 1, cp = 1, attn_tp = 1;
  int32_t moe_dp = 1, ep = 1, moe_tp = 1;

  RankCoordinates coordinates(int32_t rank) const;
  /// Ranks that hold the same heads and cut the same sequences between them: [cp].
  std::vector<int32_t> cp_group(int32_t rank) const;
  /// Ranks that work on the same rows and split the heads: [attn_tp].
  std::vector<int32_t> attn_tp_group(int32_t rank) const;
  /// Ranks that together hold all experts once: [ep * moe_tp].
  std::vector<int32_t> moe_group(int32_t rank) const;
  /// Ranks of a moe group that hold the same slice of different experts: [ep].
  std::vector<int32_t> ep_group(int32_t rank) const;
  /// Ranks that split the width of the same experts: [moe_tp].
  std::vector<int32_t> moe_tp_group(int32_t rank) const;

  bool operator==(const Layout&) const = default;
};

/// Whether one rank could take a step alone, in a process whose ranks share their KV pools: each holds all
/// heads and all experts.
bool has_whole_ranks(const Layout& layout, const LayoutModel& model);

inline constexpr int32_t kMaxRanks = 1024;

/// The grid a user asked for, with what was left open filled in. Throws Error(kUsage) that names the broken
/// rule, the values and nearest_legal_layout.
Layout make_layout(const LayoutOptions& options, const LayoutModel& model);

/// The legal options nearest to illegal ones: the fewest flags changed, then by the least, then with the same
/// number of ranks. make_layout accepts them.
LayoutOptions nearest_legal_layout(const LayoutOptions& options, const LayoutModel& model);

/// "--tp 4 --cp 2 --moe-dp 2": as a user types them; flags that are left open or have no effect are left out.
std::string to_flags(const LayoutOptions& options);

}  // namespace longspan
