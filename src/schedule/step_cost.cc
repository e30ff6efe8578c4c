#include "schedule/step_cost.h"

#include <algorithm>
#include <cmath>

namespace longspan {
namespace {

constexpr double kForget = 0.95;  // weight of what was seen one step earlier
// Of a pivot's own size: what is left of it where the terms before explain it.
constexpr double kDistinct = 1e-6;
// A further term must take away this share of the samples' weight in squared relative errors.
constexpr double kWorthwhile = 1e-9;
// The quantile of measured / predicted that cautious_ms follows, and how fast.
constexpr double kQuantile = 0.995, kStep = 0.08, kMostExcess = 2, kRounding = 1e-6;

std::array<double, 3> features(const StepWork& work) {
  return {1, work.tokens, work.pairs};
}

}  // namespace

void StepWork::add(int64_t new_tokens, int64_t prefix_len) {
  const auto n = static_cast<double>(new_tokens), p = static_cast<double>(prefix_len);
  tokens += n;
  pairs += n * p + n * (n + 1) / 2;
}

StepWork work_of(std::span<const BatchRow> rows) {
  StepWork work;
  for (const BatchRow& row : rows) work.add(row.new_tokens, row.prefix_len);
  return work;
}

void StepCost::observe(const StepWork& work, double ms) {
  if (!(ms > 0) || !(work.tokens > 0)) return;
  if (known()) {
    const double ratio = ms / predict_ms(work);
    excess_ += ratio > excess_ + kRounding ? kQuantile * kStep : -(1 - kQuantile) * kStep;
    excess_ = std::clamp(excess_, 1.0, kMostExcess);
  }
  const auto x = features(work);
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) gram_[i][j] = kForget * gram_[i][j] + x[i] * x[j] / (ms * ms);
    moments_[i] = kForget * moments_[i] + x[i] / ms;
  }
  weight_ = kForget * weight_ + 1;
  ++samples_;
  fit();
}

double StepCost::predict_ms(const StepWork& work) const {
  const auto x = features(work);
  double ms = 0;
  for (int i = 0; i < kTerms; ++i) ms += terms_[i] * x[i];
  return ms;
}

// The subset of terms with the least error whose factors are not negative; tokens are in each.
void StepCost::fit() {
  constexpr int kConstant = 0, kTokens = 1, kPairs = 2;
  const std::array<std::array<int, kTerms>, 4> subsets = {
      {{kTokens, -1, -1}, {kTokens, kPairs, -1}, {kTokens, kConstant, -1}, {kTokens, kPairs, kConstant}}};
  double best_error = 0;
  for (const auto& subset : subsets) {
    const auto size = std::find(subset.begin(), subset.end(), -1) - subset.begin();
    // Cholesky: G = L L^T.
    std::array<std::array<double, kTerms>, kTerms> lower{};
    std::array<double, kTerms> solved{};
    bool distinct = true;
    for (int i = 0; i < size && distinct; ++i) {
      for (int j = 0; j <= i; ++j) {
        double sum = gram_[subset[i]][subset[j]];
        for (int k = 0; k < j; ++k) sum -= lower[i][k] * lower[j][k];
        if (i != j) {
          lower[i][j] = sum / lower[j][j];
        } else if (sum > kDistinct * gram_[subset[i]][subset[i]]) {
          lower[i][i] = std::sqrt(sum);
        } else {
          distinct = false;
        }
      }
    }
    if (!distinct) continue;
    double error = weight_;
    for (int i = 0; i < size; ++i) {
      double sum = moments_[subset[i]];
      for (int k = 0; k < i; ++k) sum -= lower[i][k] * solved[k];
      solved[i] = sum / lower[i][i];
      error -= solved[i] * solved[i];
    }
    std::array<double, kTerms> terms{};
    for (auto i = static_cast<int>(size) - 1; i >= 0; --i) {
      double sum = solved[i];
      for (int k = i + 1; k < size; ++k) sum -= lower[k][i] * terms[subset[k]];
      terms[subset[i]] = sum / lower[i][i];
    }
    if (std::any_of(terms.begin(), terms.end(), [](double term) { return term < 0; })) continue;
    if (size > 1 && error > best_error - kWorthwhile * weight_) continue;
    best_error = error;
    terms_ = terms;
  }
}

}  // namespace longspan
