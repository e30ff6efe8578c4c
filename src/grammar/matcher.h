#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "grammar/grammar.h"

namespace longspan {

/// Follows a grammar byte by byte. Where it can be is a set of (node, nodes to return to); each set that was
/// met has a number and a table of where each byte leads, filled as bytes come, so a text that was followed
/// before costs a look-up a byte. A grammar whose alternatives begin alike over and over makes such sets grow
/// without end: the constructor and after() bound their size, and the work and the memory of a step, and
/// throw Error(kInvalidRequest) beyond that. Not for several threads.
class Matcher {
 public:
  using Place = int32_t;  // a set's number
  static constexpr Place kNowhere = -1;

  explicit Matcher(std::shared_ptr<const Grammar> grammar);

  Place begin() const { return begin_; }
  /// The work of after() is counted anew from here on.
  void begin_step() { work_ = 0; }
  /// kNowhere if the grammar has no such text.
  Place after(Place place, uint8_t byte);
  /// The text may end here.
  bool can_end(Place place) const { return sets_[static_cast<size_t>(place)].can_end; }
  /// Sets met so far.
  int64_t size() const { return static_cast<int64_t>(sets_.size()); }
  /// What they take, about.
  int64_t bytes() const;
  /// Forgets all but `place`, which gets the number returned.
  Place forget_all_but(Place place);

 private:
  struct Config {
    int32_t node, stack;  // stack: index into frames_, 0 for the empty one
    auto operator<=>(const Config&) const = default;
  };
  struct Set {
    std::vector<Config> configs;
    bool can_end = false;
    std::array<Place, 256> next{};
  };
  struct Frame {
    int32_t below, back_to;  // a stack; the node to go on from
  };

  void reach(Config config, Set& set, std::set<Config>& seen);
  void work(size_t amount);
  void keep_frames_of(std::vector<Config>& configs);
  int32_t push(int32_t stack, int32_t back_to);
  Place intern(Set set);

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Set> sets_;
  std::map<std::pair<std::vector<Config>, bool>, Place> places_;
  std::vector<Frame> frames_;
  std::map<std::pair<int32_t, int32_t>, int32_t> stacks_;
  int64_t configs_ = 0;  // of all sets
  int64_t work_ = 0;     // in this step
  Place begin_ = 0;
};

}  // namespace longspan
