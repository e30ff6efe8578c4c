#pragma once

#include <cstdint>

#include "plan/layout_rules.h"

namespace longspan {

/// How the rows of a moe group meet its experts.
enum class ExpertExchange {
  kReduce,   // every rank has all rows already, or is alone: products are added up
  kGather,   // every rank gets all rows of the group, and its part of every row's product goes back
  kAllToAll  // a row goes to the ranks that own one of its experts, and comes back from those alone
};

/// Bytes that arrive at a rank of the group in one layer for each of its own rows: with rows spread evenly
/// over cp ranks, and over experts by a router that prefers none. Rows and products travel in f32.
double expert_exchange_bytes(ExpertExchange exchange, const LayoutModel& model, const Layout& layout);

/// The one by which fewer bytes arrive, kGather where both take as many. kReduce wherever it can be.
ExpertExchange choose_expert_exchange(const LayoutModel& model, const Layout& layout);

}  // namespace longspan
