#include "schedule/fair_share.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {

int32_t FairShare::enter(const std::string& tenant) {
  const auto [entry, is_new] = indices_.try_emplace(tenant, 0);
  if (is_new) {
    const auto unused = std::find(names_.begin(), names_.end(), indices_.end());
    entry->second = static_cast<int32_t>(unused - names_.begin());
    if (unused == names_.end()) {
      names_.push_back(entry);
      sequences_.push_back(0);
      served_.push_back(0);
    } else {
      *unused = entry;
    }
    served_[entry->second] = now_;
  }
  ++sequences_[entry->second];
  return entry->second;
}

void FairShare::leave(int32_t tenant) {
  check(sequences_.at(tenant) > 0, "a tenant without sequences has none to lose");
  if (--sequences_[tenant] > 0) return;
  now_ = std::max(now_, served_[tenant]);  // it will not be served before the others for having left
  indices_.erase(names_[tenant]);
  names_[tenant] = indices_.end();
}

void FairShare::begin_prompts(int32_t tenant) {
  served_.at(tenant) = std::max(served_[tenant], now_);
}

void FairShare::charge(int32_t tenant, int64_t prompt_tokens) {
  now_ = std::max(now_, served_.at(tenant));
  served_[tenant] += prompt_tokens;
}

}  // namespace longspan
