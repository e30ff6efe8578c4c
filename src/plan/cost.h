#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/cp_plan.h"

namespace longspan {

/// Sizes that decide how much work a token is. Counts are of the slice that one rank computes.
struct CostShape {
  int32_t layers = 0;
  int32_t moe_layers = 0;  // of these; the others are dense
  int64_t hidden = 0;
  int32_t heads_q = 0, heads_kv = 0;  // Hq, Hk = Hv
  int32_t dim_k = 0, dim_v = 0;       // Dk, Dv
  int64_t mlp_width = 0;              // dense layers
  int32_t experts = 0;                // the router's outputs
  int32_t experts_per_token = 0;
  int64_t expert_width = 0;
  int64_t shared_expert_width = 0;  // 0: none
  int64_t vocab = 0;
};

/// Multiplications and additions for one row, or one (row, key) pair. Norms, rotation and activations, a few
/// operations a value, are left out.
double linear_flops_per_row(const CostShape& shape);       // all layers' projections, MLPs, router, experts
double attention_flops_per_pair(const CostShape& shape);   // scores and weighted values, all heads and layers
double logits_flops_per_sequence(const CostShape& shape);  // lm_head of a sequence's last row

/// One rank's predicted work in a step.
struct RankCost {
  int64_t rows = 0;
  int64_t causal_pairs = 0;  // (row, key) pairs: RankPlan::causal_work
  double attention_flops = 0;
  double linear_flops = 0;  // with the logits
  double total() const { return attention_flops + linear_flops; }
};

struct PlanCost {
  std::vector<RankCost> ranks;  // [cp]
  double total_flops = 0;
  double imbalance = 1;  // slowest rank / mean; 1 is perfect, cp the worst
};

PlanCost plan_cost(const CpPlan& plan, const CostShape& shape);

}  // namespace longspan
