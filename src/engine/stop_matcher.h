#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// Cuts a text that arrives in pieces before the stop string that is complete first. Text that may be the
/// start of a stop string is held back until it is known not to be.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// The part of the text that is safe to show now.
  std::string push(std::string_view piece);
  /// What is still held back, once no more text will come. Empty after a match.
  std::string finish();
  bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace longspan
