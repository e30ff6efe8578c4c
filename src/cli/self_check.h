#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cli/context.h"

namespace longspan::cli {

/// Replays one request in N on a second engine at cp 1 and keeps the largest difference between the two
/// log-probabilities of a prompt or generated token.
class SelfCheck {
 public:
  /// `every` 0: checks nothing and loads nothing. Both engines share the memory: `options.mem_fraction` is
  /// halved here, before the caller opens its own engine.
  SelfCheck(int64_t every, EngineOptions& options, const Context& context);

  /// Whether the request submitted next is to be checked.
  bool next();
  /// The prompt's log-probabilities and those of the chosen tokens are needed for the comparison.
  static SamplingParams with_logprobs(SamplingParams sampling);
  /// `result` must come from with_logprobs; failed requests are passed over, and a replay
  /// that fails is counted and told in text().
  void compare(const Prompt& prompt, const Result& result);

  bool enabled() const { return every_ > 0; }
  int64_t requests() const { return requests_; }
  double largest_difference() const { return largest_; }  // natural logarithm
  /// "self-check: 3 requests, 1200 tokens, largest log-probability difference 0.00012 to cp 1".
  std::string text() const;

 private:
  int64_t every_;
  std::unique_ptr<Engine> reference_;
  int64_t seen_ = 0;
  int64_t requests_ = 0;
  int64_t tokens_ = 0;
  int64_t failed_ = 0;
  std::string failure_;  // the last one's message
  double largest_ = 0;
};

}  // namespace longspan::cli
