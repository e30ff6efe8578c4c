#include "schedule/policy.h"

#include <algorithm>

namespace longspan {

std::vector<int32_t> allot_tokens(std::span<const Demand> demands, int64_t budget, uint64_t round) {
  std::vector<int32_t> allotted(demands.size(), 0);
  const auto decoding =
      std::count_if(demands.begin(), demands.end(), [](const Demand& d) { return d.decoding; });
  const bool prompts = decoding < std::ssize(demands);
  // A budget of 1 can't be shared within a step: prompts and decoding rows take turns.
  const bool prompt_turn = prompts && (budget > 1 || round % 2 == 0);
  int64_t for_decoding = budget - (prompt_turn ? 1 : 0);

  for (size_t i = 0; i < demands.size() && for_decoding > 0; ++i) {
    const size_t turned = (i + round / 2) % demands.size();
    if (!demands[turned].decoding) continue;
    allotted[turned] = 1;
    --for_decoding;
    --budget;
  }
  for (size_t i = 0; i < demands.size() && budget > 0; ++i) {
    if (demands[i].decoding) continue;
    allotted[i] = static_cast<int32_t>(std::min<int64_t>(demands[i].pending, budget));
    budget -= allotted[i];
  }
  return allotted;
}

}  // namespace longspan
