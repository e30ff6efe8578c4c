#include "core/fault_plan.h"

#include <charconv>
#include <fstream>
#include <sstream>

#include "abi/acl.h"
#include "abi/hccl.h"

namespace cann_sim {
namespace {

template <class... Args>
[[noreturn]] void malformed(fmt::format_string<Args...> format, Args&&... args) {
  fail(ACL_ERROR_INVALID_PARAM, format, std::forward<Args>(args)...);
}

bool begins(std::string_view call, std::string_view with) {
  return call.substr(0, with.size()) == with;
}

// The words of a rule, one after the other.
class Words {
 public:
  explicit Words(const std::string& text) : in_(text.substr(0, text.find('#'))) { next(); }
  bool at_end() const { return word_.empty(); }
  std::string take() {
    std::string taken = word_;
    next();
    return taken;
  }
  bool take(std::string_view expected) {
    if (word_ != expected) return false;
    next();
    return true;
  }
  int64_t number(const char* of, int64_t least) {
    const std::string text = take();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > 1'000'000'000)
      malformed("'{}' wants a whole number from {} on, got '{}'", of, least, text);
    return value;
  }

 private:
  void next() {
    word_.clear();
    in_ >> word_;
  }
  std::istringstream in_;
  std::string word_;
};

// Calls that hand out memory or what is made of it; 0: none.
int no_memory_code(std::string_view call) {
  if (call == "HcclCommInitRootInfo") return HCCL_E_MEMORY;
  for (const char* with : {"aclrtMalloc", "aclrtCreateStream", "aclrtCreateEvent"})
    if (begins(call, with)) return ACL_ERROR_RT_MEMORY_ALLOCATION;
  return 0;
}

// Operators, copies and collectives that write something.
bool writes(std::string_view call) {
  for (const char* with : {"aclrtMemcpy", "aclrtMemset", "HcclAll", "HcclReduceScatter", "HcclBroadcast"})
    if (begins(call, with)) return true;
  return begins(call, "aclnn") && !call.ends_with("GetWorkspaceSize") && call != "aclnnInit" &&
         call != "aclnnFinalize";
}

Disturbance parse_action(const std::string& call, Words& words) {
  Disturbance what;
  const std::string action = words.take();
  if (action == "fail") {
    what.code = static_cast<int>(words.number("fail", 1));
  } else if (action == "no-memory") {
    what.code = no_memory_code(call);
    if (what.code == 0)
      malformed(
          "no-memory is for calls that allocate (aclrtMalloc..., aclrtCreate..., "
          "HcclCommInitRootInfo), not for {}; use 'fail CODE'",
          call);
  } else if (action == "stall") {
    what.stall = std::chrono::milliseconds(words.number("stall", 1));
  } else if (action == "garbage") {
    what.garbage = 1;
    if (!writes(call)) malformed("garbage is for operators, copies and collectives, not for {}", call);
  } else {
    malformed("'{}' is none of: device N, nth N, every N, fail CODE, no-memory, stall MS, garbage", action);
  }
  return what;
}

}  // namespace

FaultPlan::Rule FaultPlan::parse(const std::string& text) const {
  Words words(text);
  Rule rule;
  rule.call = words.take();
  if (!known_(rule.call))
    malformed("'{}' is no entry point of this release that returns a code or a handle", rule.call);
  if (words.take("device")) rule.device = static_cast<int>(words.number("device", 0));
  if (words.take("nth"))
    rule.nth = static_cast<uint64_t>(words.number("nth", 1));
  else if (words.take("every"))
    rule.every = static_cast<uint64_t>(words.number("every", 1));
  rule.what = parse_action(rule.call, words);
  if (!words.at_end()) malformed("'{}' follows a rule that is complete", words.take());
  return rule;
}

void FaultPlan::read(const std::string& path) {
  std::ifstream in(path);
  if (!in) malformed("CANN_SIM_FAULTS: {} can't be read", path);
  clear();
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const std::string where = fmt::format("{}:{}", path, number);
    try {
      if (!Words(line).at_end()) add(line, where);
    } catch (const Fault& fault) {
      clear();
      malformed("CANN_SIM_FAULTS: {}: {}", where, fault.text);
    }
  }
}

void FaultPlan::add(const std::string& text, const std::string& where) {
  Rule rule = parse(text);
  rule.what.rule = where.empty() ? text : where;
  const std::lock_guard lock(mutex_);
  rules_.push_back(std::move(rule));
  empty_ = false;
}

void FaultPlan::clear() {
  const std::lock_guard lock(mutex_);
  rules_.clear();
  empty_ = true;
}

Disturbance FaultPlan::due(std::string_view call, int device) {
  if (empty_) return {};
  const std::lock_guard lock(mutex_);
  std::optional<Disturbance> due;
  for (Rule& rule : rules_) {
    if (rule.call != call || device != rule.device.value_or(device)) continue;
    ++rule.seen;
    const bool its_turn = rule.nth ? rule.seen == rule.nth : !rule.every || rule.seen % rule.every == 0;
    if (!its_turn || due) continue;
    due = rule.what;
    due->garbage *= rule.seen;  // other noise each time
  }
  return due.value_or(Disturbance{});
}

}  // namespace cann_sim
