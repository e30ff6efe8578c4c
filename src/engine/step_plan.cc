#include "engine/step_plan.h"

#include <utility>

namespace longspan {

StepPlan plan_step(BatchLayout layout, int32_t cp, const CpPolicy& policy, bool has_wide_rank) {
  StepPlan plan;
  plan.layout = std::move(layout);
  plan.cp = plan_context_parallel(plan.layout.rows, cp,
                                  {.min_tokens_to_cut = policy.min_tokens_to_cut,
                                   .min_tokens_per_rank = has_wide_rank ? policy.min_tokens_per_rank : 0});
  plan.wide = has_wide_rank && !plan.cp.any_cut;
  if (plan.wide) plan.cp = plan_context_parallel(plan.layout.rows, 1, {});
  return plan;
}

}  // namespace longspan
