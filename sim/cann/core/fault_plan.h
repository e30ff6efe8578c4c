#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/fault.h"

namespace cann_sim {

/// What a rule wants of one call; nothing where all are 0.
struct Disturbance {
  int code = 0;                        // it fails
  std::chrono::milliseconds stall{0};  // it, or the work that it enqueues, takes as much longer
  uint64_t garbage = 0;                // seed of what it writes instead
  std::string rule = {};               // for messages
};

/// Calls that are to go wrong, one rule a line (README.md, "Faults on demand"). Thread-safe.
class FaultPlan {
 public:
  /// `known`: whether a name is an entry point that a rule may name.
  explicit FaultPlan(std::function<bool(const std::string&)> known) : known_(std::move(known)) {}

  /// Reads all rules of a file in place of those that there are. Throws Fault(ACL_ERROR_INVALID_PARAM) naming
  /// file and line.
  void read(const std::string& path);
  /// Adds one rule, which counts calls from now on. `where`: what messages call it; "": its text.
  void add(const std::string& rule, const std::string& where = "");
  void clear();

  /// Counts a call of a thread that has this device (-1: none); what the first rule that is due wants of it.
  Disturbance due(std::string_view call, int device);

 private:
  struct Rule {
    std::string call;
    std::optional<int> device;
    uint64_t nth = 0, every = 0, seen = 0;
    Disturbance what;
  };
  Rule parse(const std::string& text) const;

  const std::function<bool(const std::string&)> known_;
  std::mutex mutex_;
  std::atomic<bool> empty_ = true;
  std::vector<Rule> rules_;
};

}  // namespace cann_sim
