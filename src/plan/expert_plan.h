#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/layout_rules.h"
#include "plan/rank_slice.h"

namespace longspan {

/// A moe group as one of its n = ep * moe_tp ranks sees it. They have the rows of c = n / copies cp ranks,
/// one section of rows each: rank r has section r / copies.
struct ExpertGroup {
  int32_t rank = 0;    // in the group
  int32_t copies = 1;  // ranks with the same rows: attn_tp
  int32_t ep = 1, moe_tp = 1;
  int32_t experts = 0;        // E
  bool has_shared = false;    // every ep rank holds the shared expert too
  int32_t first_cp_rank = 0;  // of section 0

  int32_t ranks() const { return ep * moe_tp; }
  int32_t sections() const { return ranks() / copies; }
  int32_t section_of(int32_t r) const { return r / copies; }
};

/// `rank`: in the layout.
ExpertGroup expert_group(const LayoutModel& model, const Layout& layout, int32_t rank);

/// Where the rows of a step go in one layer, for one rank: made of integers, by every rank from the same
/// choices. A row goes to the ranks that own one of its experts and, where there is a shared expert, to those
/// that add it: an ep rank among the row's own copies, which share a section's rows in equal runs. Copies of
/// a row each send to those ranks that stand as they do among copies of their own.
struct ExpertPlan {
  // The rows that this rank works on, section by section, ascending.
  std::vector<int32_t> work;         // row of the group: sections one after the other
  std::vector<SliceRange> sections;  // [c] of `work`
  std::vector<SliceRange> shared;    // [c] of `work`: those whose shared expert is added here
  SliceRange own_shared;             // the same rows of the rank's own section, counted in that

  // Rows on their way; those that arrive are `work`.
  std::vector<int32_t> send_rows;                 // of the own section, by target rank
  std::vector<int64_t> send_counts, recv_counts;  // [n]

  // Products on their way back, to all copies of a row.
  std::vector<int32_t> result_rows;                       // of `work`, by target rank
  std::vector<int64_t> result_counts, own_result_counts;  // [n] sent to each rank, got from each
  std::vector<int32_t> combine;  // [n, own rows] row of what came back from each rank; -1: nothing did
};

/// section_rows [c]; ids [G, k]: the experts that each of the group's G rows has chosen.
ExpertPlan plan_experts(const ExpertGroup& group, std::span<const int32_t> section_rows,
                        std::span<const int32_t> ids);

}  // namespace longspan
