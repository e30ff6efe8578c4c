#include "grammar/matcher.h"

#include <longspan/error.h>

#include <algorithm>
#include <utility>

namespace longspan {
namespace {

constexpr Matcher::Place kUnknown = -2;
constexpr size_t kMostSeen = 8192;         // (node, stack) of one set
constexpr int64_t kMostWork = 32'000'000;  // of one step: edges looked at, and
constexpr size_t kVisitWork = 8;           // for each (node, stack) this
constexpr int64_t kMostBytes = int64_t{64} << 20;
constexpr int64_t kSetBytes = 1200, kConfigBytes = 16, kFrameBytes = 72;

[[noreturn]] void too_many() {
  throw Error(ErrorCode::kInvalidRequest,
              "json_schema: too many alternatives begin alike; let them differ in their first member");
}

}  // namespace

Matcher::Matcher(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)), frames_(1) {
  Set set;
  std::set<Config> seen;
  reach({grammar_->rule(0).begin, 0}, set, seen);
  begin_ = intern(std::move(set));
}

void Matcher::work(size_t amount) {
  work_ += static_cast<int64_t>(amount);
  if (work_ > kMostWork) too_many();
}

int64_t Matcher::bytes() const {
  return std::ssize(sets_) * kSetBytes + configs_ * kConfigBytes + std::ssize(frames_) * kFrameBytes;
}

int32_t Matcher::push(int32_t stack, int32_t back_to) {
  const auto [found, is_new] = stacks_.try_emplace({stack, back_to}, static_cast<int32_t>(frames_.size()));
  if (is_new) frames_.push_back({stack, back_to});
  return found->second;
}

// Adds the places that can be reached without a byte and from which a byte leads on.
void Matcher::reach(Config config, Set& set, std::set<Config>& seen) {
  std::vector<Config> waiting = {config};
  while (!waiting.empty()) {
    const Config at = waiting.back();
    waiting.pop_back();
    if (!seen.insert(at).second) continue;
    if (seen.size() > kMostSeen) too_many();
    work(kVisitWork + grammar_->edges(at.node).size());
    if (grammar_->is_end(at.node)) {
      if (at.stack == 0) {
        set.can_end = true;
      } else {
        const Frame& frame = frames_[static_cast<size_t>(at.stack)];
        waiting.push_back({frame.back_to, frame.below});
      }
    }
    bool takes_bytes = false;
    for (const Grammar::Edge& edge : grammar_->edges(at.node)) {
      if (edge.kind == Grammar::Edge::kBytes) takes_bytes = true;
      if (edge.kind == Grammar::Edge::kNothing) waiting.push_back({edge.to, at.stack});
      if (edge.kind == Grammar::Edge::kRule)
        waiting.push_back({grammar_->rule(edge.rule).begin, push(at.stack, edge.to)});
    }
    if (takes_bytes) set.configs.push_back(at);
  }
}

Matcher::Place Matcher::intern(Set set) {
  if (set.configs.empty() && !set.can_end) return kNowhere;
  std::sort(set.configs.begin(), set.configs.end());
  set.configs.erase(std::unique(set.configs.begin(), set.configs.end()), set.configs.end());
  const auto [found, is_new] =
      places_.try_emplace({set.configs, set.can_end}, static_cast<Place>(sets_.size()));
  if (is_new) {
    configs_ += std::ssize(set.configs);
    if (bytes() > kMostBytes) too_many();
    set.next.fill(kUnknown);
    sets_.push_back(std::move(set));
  }
  return found->second;
}

Matcher::Place Matcher::after(Place place, uint8_t byte) {
  const Place known = sets_[static_cast<size_t>(place)].next[byte];
  if (known != kUnknown) return known;
  Set set;
  std::set<Config> seen;
  for (const Config& config : sets_[static_cast<size_t>(place)].configs) {
    work(grammar_->edges(config.node).size());
    for (const Grammar::Edge& edge : grammar_->edges(config.node)) {
      if (edge.kind == Grammar::Edge::kBytes && edge.low <= byte && byte <= edge.high)
        reach({edge.to, config.stack}, set, seen);
    }
  }
  const Place next = intern(std::move(set));
  sets_[static_cast<size_t>(place)].next[byte] = next;
  return next;
}

Matcher::Place Matcher::forget_all_but(Place place) {
  Set kept = std::move(sets_[static_cast<size_t>(place)]);
  sets_.clear();
  places_.clear();
  stacks_.clear();
  configs_ = 0;
  keep_frames_of(kept.configs);
  return intern(std::move(kept));
}

// A frame lies after those below it, so one pass down finds all that are needed and one up numbers them anew.
void Matcher::keep_frames_of(std::vector<Config>& configs) {
  std::vector<int32_t> number(frames_.size(), -1);
  number[0] = 0;
  for (const Config& config : configs) number[static_cast<size_t>(config.stack)] = 0;
  for (size_t i = frames_.size(); i-- > 1;)
    if (number[i] == 0) number[static_cast<size_t>(frames_[i].below)] = 0;
  std::vector<Frame> frames = std::exchange(frames_, std::vector<Frame>(1));
  for (size_t i = 1; i < frames.size(); ++i) {
    if (number[i] == 0) number[i] = push(number[static_cast<size_t>(frames[i].below)], frames[i].back_to);
  }
  for (Config& config : configs) config.stack = number[static_cast<size_t>(config.stack)];
}

}  // namespace longspan
