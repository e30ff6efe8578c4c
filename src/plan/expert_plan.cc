#include "plan/expert_plan.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {
namespace {

class ExpertPlanner {
 public:
  ExpertPlanner(const ExpertGroup& group, std::span<const int32_t> section_rows, std::span<const int32_t> ids)
      : group_(group), section_rows_(section_rows) {
    check(std::ssize(section_rows) == group.sections(), "rows of every section of the moe group");
    for (const int32_t rows : section_rows) {
      begin_.push_back(rows_);
      rows_ += rows;
    }
    find_owners(ids);
    for (int32_t s = 0; s < group.sections(); ++s) place_shared(s);
  }

  ExpertPlan plan() {
    plan_work();
    plan_rows();
    plan_results();
    return std::move(result_);
  }

 private:
  void find_owners(std::span<const int32_t> ids) {
    std::vector<int32_t> owner(static_cast<size_t>(group_.experts));
    for (int32_t e = 0; e < group_.ep; ++e) {
      const SliceRange part = even_part(group_.experts, group_.ep, e);
      std::fill_n(owner.begin() + part.begin, part.count, e);
    }
    goes_.assign(static_cast<size_t>(rows_) * group_.ep, false);
    if (rows_ == 0) return;
    check(ids.size() % static_cast<size_t>(rows_) == 0, "every row of the moe group has k experts");
    const size_t k = ids.size() / static_cast<size_t>(rows_);
    for (size_t i = 0; i < ids.size(); ++i) {
      check(ids[i] >= 0 && ids[i] < group_.experts, "a row's experts are the model's");
      goes_[i / k * group_.ep + owner[ids[i]]] = true;
    }
  }

  // The ep ranks among a section's copies share its rows in equal runs.
  SliceRange shared_rows(int32_t section, int32_t ep_rank) const {
    const int32_t first = section * group_.copies / group_.moe_tp;
    const int32_t last = ((section + 1) * group_.copies - 1) / group_.moe_tp;
    if (!group_.has_shared || ep_rank < first || ep_rank > last) return {};
    return even_part(section_rows_[section], last - first + 1, ep_rank - first);
  }

  void place_shared(int32_t section) {
    for (int32_t e = 0; e < group_.ep; ++e) {
      const SliceRange rows = shared_rows(section, e);
      for (int64_t i = rows.begin; i < rows.end(); ++i) goes_[row(section, i) * group_.ep + e] = true;
    }
  }

  size_t row(int32_t section, int64_t i) const { return static_cast<size_t>(begin_[section] + i); }
  int32_t ep_rank(int32_t rank) const { return rank / group_.moe_tp; }
  int32_t own_section() const { return group_.section_of(group_.rank); }

  // visit(i) for every row i of a section that `rank` works on.
  template <class Visit>
  void each_row(int32_t section, int32_t rank, Visit visit) const {
    for (int32_t i = 0; i < section_rows_[section]; ++i)
      if (goes_[row(section, i) * group_.ep + ep_rank(rank)]) visit(i);
  }

  void plan_work() {
    for (int32_t s = 0; s < group_.sections(); ++s) {
      const int64_t begin = std::ssize(result_.work);
      const SliceRange shared = shared_rows(s, ep_rank(group_.rank));
      SliceRange here{begin, shared.count};
      each_row(s, group_.rank, [&](int32_t i) {
        if (i == shared.begin) here.begin = std::ssize(result_.work);
        result_.work.push_back(static_cast<int32_t>(row(s, i)));
      });
      result_.sections.push_back({begin, std::ssize(result_.work) - begin});
      result_.shared.push_back(here);
      if (s == own_section()) result_.own_shared = shared;
    }
  }

  void plan_rows() {
    const int32_t copy = group_.rank % group_.copies;
    for (int32_t r = 0; r < group_.ranks(); ++r) {
      const auto before = std::ssize(result_.send_rows);
      if (r % group_.copies == copy) {
        each_row(own_section(), r, [&](int32_t i) { result_.send_rows.push_back(i); });
        result_.recv_counts.push_back(result_.sections[group_.section_of(r)].count);
      } else {
        result_.recv_counts.push_back(0);
      }
      result_.send_counts.push_back(std::ssize(result_.send_rows) - before);
    }
  }

  void plan_results() {
    const auto own_rows = static_cast<size_t>(section_rows_[own_section()]);
    result_.combine.assign(own_rows * group_.ranks(), -1);
    int32_t came = 0;
    for (int32_t r = 0; r < group_.ranks(); ++r) {
      const SliceRange part = result_.sections[group_.section_of(r)];
      for (int64_t i = part.begin; i < part.end(); ++i)
        result_.result_rows.push_back(static_cast<int32_t>(i));
      result_.result_counts.push_back(part.count);
      const int32_t before = came;
      each_row(own_section(), r, [&](int32_t i) { result_.combine[r * own_rows + i] = came++; });
      result_.own_result_counts.push_back(came - before);
    }
  }

  const ExpertGroup& group_;
  const std::span<const int32_t> section_rows_;
  std::vector<int32_t> begin_;  // [c] first row of each section
  int32_t rows_ = 0;            // G
  std::vector<char> goes_;      // [G, ep] whether a row goes to an ep rank
  ExpertPlan result_;
};

}  // namespace

ExpertGroup expert_group(const LayoutModel& model, const Layout& layout, int32_t rank) {
  const RankCoordinates at = layout.coordinates(rank);
  return {.rank = at.ep_rank * layout.moe_tp + at.moe_tp_rank,
          .copies = layout.attn_tp,
          .ep = layout.ep,
          .moe_tp = layout.moe_tp,
          .experts = model.experts,
          .has_shared = model.shared_expert_width > 0,
          .first_cp_rank = at.moe_dp_rank * layout.cp / layout.moe_dp};
}

ExpertPlan plan_experts(const ExpertGroup& group, std::span<const int32_t> section_rows,
                        std::span<const int32_t> ids) {
  return ExpertPlanner(group, section_rows, ids).plan();
}

}  // namespace longspan
