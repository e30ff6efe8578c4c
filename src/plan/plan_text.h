#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "plan/batch.h"
#include "plan/cost.h"
#include "plan/cp_plan.h"

namespace longspan {

inline constexpr int32_t kMinPlanTextWidth = 76;

/// Draws who owns what: for each cut sequence its blocks in order with their rank, tokens and keys visible at
/// their end; sequences placed whole as one line each; then each rank's share of the work. ASCII, every line
/// at most max(width, kMinPlanTextWidth) columns, '\n' at the end of each. `rows` and `cost` belong to
/// `plan`.
std::string draw_plan(std::span<const BatchRow> rows, const CpPlan& plan, const PlanCost& cost,
                      int32_t width);

}  // namespace longspan
