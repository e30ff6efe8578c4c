#include "schedule/policy.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace longspan {
namespace {

// Tokens that a tenant may get ahead of another within a step: pieces of prompts are not split further.
constexpr int64_t kQuantum = 64;

// Prompts in the order in which they are due.
std::vector<size_t> prompts_by_due(std::span<const Demand> demands) {
  std::vector<size_t> prompts;
  for (size_t i = 0; i < demands.size(); ++i)
    if (!demands[i].decoding) prompts.push_back(i);
  std::stable_sort(prompts.begin(), prompts.end(),
                   [&](size_t a, size_t b) { return demands[a].due < demands[b].due; });
  return prompts;
}

// Fills the tenants like vessels: the lowest level rises first.
void allot_prompts(std::span<const Demand> demands, std::span<const int64_t> served, int64_t budget,
                   std::vector<int32_t>& allotted) {
  std::vector<size_t> open = prompts_by_due(demands);
  std::vector<int64_t> level(served.begin(), served.end());
  while (budget > 0 && !open.empty()) {
    const auto lowest = std::min_element(open.begin(), open.end(), [&](size_t a, size_t b) {
      return level[demands[a].tenant] < level[demands[b].tenant];
    });
    const Demand& demand = demands[*lowest];
    int64_t next_level = std::numeric_limits<int64_t>::max();
    for (const size_t other : open)
      if (demands[other].tenant != demand.tenant)
        next_level = std::min(next_level, level[demands[other].tenant]);
    const int64_t share = std::max(kQuantum, next_level - level[demand.tenant]);
    const int64_t left = demand.pending - allotted[*lowest];
    const int64_t given = std::min({left, budget, share});
    allotted[*lowest] += static_cast<int32_t>(given);
    level[demand.tenant] += given;
    budget -= given;
    if (given == left) open.erase(lowest);
  }
}

}  // namespace

std::vector<int32_t> allot_tokens(std::span<const Demand> demands, std::span<const int64_t> served,
                                  int64_t budget, uint64_t round) {
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
  allot_prompts(demands, served, budget, allotted);
  return allotted;
}

int64_t largest_that_fits(int64_t least, int64_t most, const std::function<bool(int64_t)>& fits) {
  int64_t good = least, bad = std::max(least, most) + 1;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

size_t next_admission(std::span<const Candidate> waiting, std::span<const TenantLoad> tenants) {
  std::vector<size_t> order(waiting.size());
  std::iota(order.begin(), order.end(), size_t{0});
  return *std::min_element(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto key = [&](size_t i) {
      const TenantLoad& tenant = tenants[waiting[i].tenant];
      return std::tuple(tenant.running, tenant.served, waiting[i].due);
    };
    return key(a) < key(b);
  });
}

}  // namespace longspan
