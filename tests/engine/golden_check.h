#pragma once

#include <longspan/request.h>

#include <string>
#include <vector>

#include "support/golden_model.h"

namespace longspan::testing_support {

/// How near a result must be to the oracle.
struct GoldenBound {
  double logprob = 0;  // of any log-probability
  /// Of any router logit. Where two experts are nearer than twice this, the choice may differ, and from there
  /// on nothing is asked of that sequence.
  double router = 0;
};

/// What one result showed: the largest and the summed distance of the `compared` log-probabilities, and the
/// first contradiction ("" if there is none).
struct GoldenFinding {
  double worst = 0;
  double sum = 0;
  int64_t compared = 0;
  std::string problem;
};

/// Compares the parts of `result` that were asked for. Tokens must be equal as long as the margins exceed
/// twice the bound; a differing one ends the comparison.
GoldenFinding compare_to_golden(const GoldenPrompt& golden, const Result& result, const GoldenBound& bound);

/// What f32 is held to: three times the goldens' bound on the noise of f32 sums, as the CPU takes other sums
/// and another exp than torch. Two results within it differ by less than 1e-3.
GoldenBound f32_golden_bound(const GoldenModel& model);

/// Asks for the greedy continuation with its log-probabilities; `scored`: and those of the prompt.
Request greedy_request(const GoldenPrompt& golden, bool scored);

}  // namespace longspan::testing_support
