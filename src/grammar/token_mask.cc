#include "grammar/token_mask.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace longspan {
namespace {

constexpr int64_t kMostMatcherBytes = int64_t{16} << 20;
constexpr size_t kMostMasks = 256;

}  // namespace

TokenMask::TokenMask(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTable> table,
                     std::vector<int32_t> end_tokens)
    : matcher_(std::move(grammar)),
      table_(std::move(table)),
      end_tokens_(std::move(end_tokens)),
      place_(matcher_.begin()) {}

bool TokenMask::apply(std::span<float> logits) {
  matcher_.begin_step();
  if (matcher_.bytes() > kMostMatcherBytes || masks_.size() > kMostMasks) {
    place_ = matcher_.forget_all_but(place_);
    masks_.clear();
  }
  auto mask = masks_.find(place_);
  if (mask == masks_.end()) mask = masks_.emplace(place_, table_->allowed(matcher_, place_)).first;
  const bool can_end = this->can_end();
  bool any = false;
  for (size_t id = 0; id < logits.size(); ++id) {
    const bool is_end =
        std::find(end_tokens_.begin(), end_tokens_.end(), static_cast<int32_t>(id)) != end_tokens_.end();
    const bool may_come = is_end ? can_end : id < mask->second.size() && mask->second[id];
    any |= may_come;
    if (!may_come) logits[id] = -std::numeric_limits<float>::infinity();
  }
  return any;
}

void TokenMask::accept(int32_t token, std::string_view bytes) {
  if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) return;
  for (const char byte : bytes) {
    const Matcher::Place next = matcher_.after(place_, static_cast<uint8_t>(byte));
    if (next == Matcher::kNowhere) return;
    place_ = next;
  }
}

}  // namespace longspan
