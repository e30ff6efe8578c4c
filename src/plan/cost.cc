#include "plan/cost.h"

#include <algorithm>

namespace longspan {

double linear_flops_per_row(const CostShape& shape) {
  const double hidden = static_cast<double>(shape.hidden);
  const double qkv = static_cast<double>(shape.heads_q) * shape.dim_k +
                     static_cast<double>(shape.heads_kv) * (shape.dim_k + shape.dim_v);
  const double attention = qkv + static_cast<double>(shape.heads_q) * shape.dim_v;
  const double gated_mlp = 3;  // gate, up and down projections
  const double dense = gated_mlp * shape.mlp_width;
  double moe = shape.experts + gated_mlp * shape.experts_per_token * shape.expert_width;
  if (shape.shared_expert_width > 0) moe += gated_mlp * shape.shared_expert_width + 1;  // and its gate
  const double weights =
      shape.layers * attention + (shape.layers - shape.moe_layers) * dense + shape.moe_layers * moe;
  return 2 * hidden * weights;
}

double attention_flops_per_pair(const CostShape& shape) {
  return 2.0 * shape.layers * shape.heads_q * (shape.dim_k + shape.dim_v);
}

double logits_flops_per_sequence(const CostShape& shape) {
  return 2.0 * static_cast<double>(shape.hidden) * static_cast<double>(shape.vocab);
}

PlanCost plan_cost(const CpPlan& plan, const CostShape& shape) {
  PlanCost cost;
  cost.ranks.resize(plan.ranks.size());
  for (size_t r = 0; r < plan.ranks.size(); ++r) {
    RankCost& rank = cost.ranks[r];
    rank.rows = static_cast<int64_t>(plan.ranks[r].token_index.size());
    rank.causal_pairs = plan.ranks[r].causal_work;
    rank.attention_flops = static_cast<double>(rank.causal_pairs) * attention_flops_per_pair(shape);
    rank.linear_flops = static_cast<double>(rank.rows) * linear_flops_per_row(shape);
  }
  for (const RowLocation& last : plan.last_token)
    cost.ranks[last.rank].linear_flops += logits_flops_per_sequence(shape);

  double slowest = 0;
  for (const RankCost& rank : cost.ranks) {
    cost.total_flops += rank.total();
    slowest = std::max(slowest, rank.total());
  }
  if (cost.total_flops > 0)
    cost.imbalance = slowest * static_cast<double>(cost.ranks.size()) / cost.total_flops;
  return cost;
}

}  // namespace longspan
