#include "plan/expert_exchange.h"

#include <algorithm>

#include "plan/activation.h"
#include "plan/rank_slice.h"

namespace longspan {
namespace {

/// How likely k different experts of all have one among `count` of them.
double share_of_rows(int64_t all, int64_t count, int32_t k) {
  double misses = 1;
  for (int32_t i = 0; i < k && i < all; ++i)
    misses *= static_cast<double>(std::max<int64_t>(0, all - count - i)) / static_cast<double>(all - i);
  return 1 - misses;
}

}  // namespace

double expert_exchange_bytes(ExpertExchange exchange, const LayoutModel& model, const Layout& layout) {
  const double row = static_cast<double>(kFloat * model.hidden);
  const double ranks = layout.ep * layout.moe_tp;
  if (exchange == ExpertExchange::kReduce) return 2 * (ranks - 1) / ranks * row;
  const double others = layout.cp / layout.moe_dp - 1;  // rows of other cp ranks, for each own one
  if (exchange == ExpertExchange::kGather) return (others + ranks - 1) * row;

  double owners = 0;  // ep ranks that a row goes to
  for (int32_t e = 0; e < layout.ep; ++e)
    owners +=
        share_of_rows(model.experts, even_part(model.experts, layout.ep, e).count, model.experts_per_token);
  // The shared expert meets a row where that is, whoever has its routed ones.
  const double answers = model.shared_expert_width > 0 ? owners + 1 - owners / layout.ep : owners;
  const double choices =
      static_cast<double>(2 * kFloat * model.experts_per_token);  // ids and weights, which all ranks get
  return others * (owners / layout.ep * row + choices) + answers * layout.moe_tp * (ranks - 1) / ranks * row;
}

ExpertExchange choose_expert_exchange(const LayoutModel& model, const Layout& layout) {
  if (model.experts == 0 || layout.moe_dp == layout.cp) return ExpertExchange::kReduce;
  const auto bytes = [&](ExpertExchange exchange) { return expert_exchange_bytes(exchange, model, layout); };
  return bytes(ExpertExchange::kAllToAll) < bytes(ExpertExchange::kGather) ? ExpertExchange::kAllToAll
                                                                           : ExpertExchange::kGather;
}

}  // namespace longspan
