#include "core/cost.h"

#include <algorithm>

#include "abi/acl.h"
#include "core/fault.h"

namespace cann_sim {
namespace {

// Peak figures; README.md names their sources.
constexpr Card kCards[] = {
    {.name = "A2", .flops = 320e12, .hbm = 1.6e12, .hccs_one = 28e9, .hccs = 196e9, .host = 32e9},
    {.name = "A3", .flops = 376e12, .hbm = 1.6e12, .hccs_one = 196e9, .hccs = 196e9, .host = 32e9},
};

}  // namespace

double Card::seconds(const Cost& cost) const {
  return std::max({cost.flops / flops, static_cast<double>(cost.hbm_bytes) / hbm,
                   static_cast<double>(cost.hccs_one_bytes) / hccs_one,
                   static_cast<double>(cost.hccs_bytes) / hccs, static_cast<double>(cost.host_bytes) / host});
}

const Card& card_of(const std::string& name) {
  for (const Card& card : kCards)
    if (name == card.name || (name.empty() && &card == kCards)) return card;
  fail(ACL_ERROR_INVALID_PARAM, "CANN_SIM_CARD='{}' is none of A2, A3", name);
}

}  // namespace cann_sim
