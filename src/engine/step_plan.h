#pragma once

#include <cstdint>
#include <vector>

#include "plan/cp_plan.h"

namespace longspan {

/// What a step's rows and pages decide, whatever the tokens are: it can be made before those are known, while
/// the step before runs.
struct StepPlan {
  BatchLayout layout;  // whose plan it is
  bool wide = false;   // nothing is cut, and one rank on all cores takes the step
  CpPlan cp;           // over one rank where it is wide
};

/// `min_tokens_per_rank` (CpPolicy) counts where there is a wide rank.
StepPlan plan_step(BatchLayout layout, int32_t cp, const CpPolicy& policy, bool has_wide_rank);

}  // namespace longspan
