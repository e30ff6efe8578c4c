#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace longspan {
namespace {

// Length of the longest end of `text` that is a proper start of `stop`.
size_t possible_start(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

std::string StopMatcher::push(std::string_view piece) {
  if (matched_) return "";
  held_ += piece;
  // The first to be complete, so that the result does not depend on the pieces; of several, the longest.
  size_t first_end = std::string::npos, cut = 0;
  for (const std::string& stop : stops_) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < first_end || (end == first_end && begin < cut)) {
      first_end = end;
      cut = begin;
    }
  }
  if (first_end != std::string::npos) {
    matched_ = true;
    return std::exchange(held_, "").substr(0, cut);
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, possible_start(held_, stop));
  std::string safe = held_.substr(0, held_.size() - keep);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, "");
}

}  // namespace longspan
