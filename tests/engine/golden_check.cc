#include "engine/golden_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace longspan::testing_support {
namespace {

class Comparison {
 public:
  Comparison(const GoldenPrompt& golden, const GoldenBound& bound) : golden_(golden), bound_(bound) {}

  // The log-probability of the token after `position`, which depends on the routing of all tokens up to
  // there.
  void logprob(size_t position, double expected, double actual) {
    const double distance = std::abs(expected - actual);
    ++finding_.compared;
    finding_.sum += distance;
    if (std::isfinite(actual) && !routed_alike(position)) return;
    finding_.worst = std::max(finding_.worst, distance);
    if (!(distance <= bound_.logprob)) {
      problem(fmt::format("log-probability after position {} is {:.6f}, expected {:.6f} within {:.2g}",
                          position, actual, expected, bound_.logprob));
    }
  }

  bool routed_alike(size_t position) const { return golden_.router_margins[position] > 2 * bound_.router; }

  void problem(const std::string& text) {
    if (finding_.problem.empty()) finding_.problem = text;
  }

  GoldenFinding finding() const { return finding_; }

 private:
  const GoldenPrompt& golden_;
  const GoldenBound& bound_;
  GoldenFinding finding_;
};

}  // namespace

GoldenFinding compare_to_golden(const GoldenPrompt& golden, const Result& result, const GoldenBound& bound) {
  Comparison comparison(golden, bound);
  const size_t length = golden.ids.size();
  if (result.error_code) comparison.problem(result.error_message);

  if (!result.prompt_logprobs.empty()) {
    if (result.prompt_logprobs.size() != length || result.prompt_logprobs[0]) {
      comparison.problem(fmt::format("{} prompt log-probabilities of {} tokens (the first has none)",
                                     result.prompt_logprobs.size(), length));
      return comparison.finding();
    }
    for (size_t i = 1; i < length; ++i) {
      comparison.logprob(i - 1, golden.logprobs[i - 1], result.prompt_logprobs[i].value_or(NAN));
    }
  }

  if (result.token_ids.size() > golden.tokens.size()) {
    comparison.problem(fmt::format("{} tokens, expected {}", result.token_ids.size(), golden.tokens.size()));
  }
  for (size_t i = 0; i < golden.tokens.size(); ++i) {
    const size_t position = length + i - 1;
    const bool decided = comparison.routed_alike(position) && golden.margins[i] > 2 * bound.logprob;
    if (i >= result.token_ids.size() || result.token_ids[i] != golden.tokens[i]) {
      if (i >= result.token_ids.size() || decided) {
        comparison.problem(fmt::format("token {} is {}, expected {} (margin {:.4f})", i,
                                       i < result.token_ids.size() ? result.token_ids[i] : -1,
                                       golden.tokens[i], golden.margins[i]));
      }
      break;
    }
    if (i < result.logprobs.size()) {
      comparison.logprob(position, golden.token_logprobs[i], result.logprobs[i].logprob);
    }
  }
  return comparison.finding();
}

GoldenBound f32_golden_bound(const GoldenModel& model) {
  constexpr double kFactor = 3;
  const GoldenBound bound{.logprob = kFactor * model.f32_bound.logprob,
                          .router = kFactor * model.f32_bound.router};
  check(2 * bound.logprob < 1e-3, "two f32 results must lie within 1e-3 of each other");
  return bound;
}

Request greedy_request(const GoldenPrompt& golden, bool scored) {
  Request request;
  request.prompt = golden.ids;
  request.sampling.max_tokens = static_cast<int32_t>(golden.tokens.size());
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 0;
  request.sampling.prompt_logprobs = scored;
  return request;
}

}  // namespace longspan::testing_support
