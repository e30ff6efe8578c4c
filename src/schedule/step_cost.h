#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "plan/batch.h"

namespace longspan {

/// How much there is to compute in a step.
struct StepWork {
  double tokens = 0;  // new ones
  double pairs = 0;   // (new token, key that it sees)

  void add(int64_t new_tokens, int64_t prefix_len);
};

StepWork work_of(std::span<const BatchRow> rows);

/// What a step takes on this machine, learned from those that were measured:
///   ms = a + b * tokens + c * pairs,   a, c >= 0, b > 0,
/// by least squares of relative errors, the latest steps counting most. A term counts only where it explains
/// what the others can't, tokens first, so that early guesses are rather too dear for small steps than too
/// cheap. Deterministic; knows no clock.
class StepCost {
 public:
  void observe(const StepWork& work, double ms);
  bool known() const { return samples_ > 0; }
  /// 0 while nothing is known.
  double predict_ms(const StepWork& work) const;
  /// predict_ms with what recent steps took beyond their prediction: about one in two hundred takes longer.
  double cautious_ms(const StepWork& work) const { return excess_ * predict_ms(work); }

 private:
  static constexpr int kTerms = 3;  // 1, tokens, pairs
  void fit();

  std::array<std::array<double, kTerms>, kTerms> gram_{};  // sums of x_i x_j / ms^2
  std::array<double, kTerms> moments_{};                   // sums of x_i / ms
  double weight_ = 0;                                      // samples, old ones faded
  int64_t samples_ = 0;
  std::array<double, kTerms> terms_{};  // a, b, c
  double excess_ = 1;                   // a high quantile of measured / predicted, at least 1
};

}  // namespace longspan
