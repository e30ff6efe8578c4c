#include "server/prefill_eta.h"

namespace longspan::server {
namespace {

constexpr double kForget = 0.95;  // weight of what was seen one chunk earlier
constexpr double kDistinct =
    1e-3;  // of the largest determinant: chunks with another share of pairs were seen

double pairs_of(double from, double to) {
  return (to * (to + 1) - from * (from + 1)) / 2;
}

}  // namespace

void PrefillEta::observe(int32_t from, int32_t to, double ms) {
  if (to <= from || ms <= 0) return;
  const double tokens = to - from, pairs = pairs_of(from, to);
  // Relative errors count: a short chunk says as much as a long one.
  const double weight = 1 / (ms * ms);
  const std::lock_guard lock(mutex_);
  for (double* sum : {&tokens2_, &pairs2_, &tokens_pairs_, &tokens_ms_, &pairs_ms_}) *sum *= kForget;
  tokens2_ += weight * tokens * tokens;
  pairs2_ += weight * pairs * pairs;
  tokens_pairs_ += weight * tokens * pairs;
  tokens_ms_ += weight * tokens * ms;
  pairs_ms_ += weight * pairs * ms;
}

double PrefillEta::pair_work() const {
  const std::lock_guard lock(mutex_);
  const double largest = tokens2_ * pairs2_;
  const double determinant = largest - tokens_pairs_ * tokens_pairs_;
  if (determinant <= kDistinct * largest) return prior_;
  const double per_token = (tokens_ms_ * pairs2_ - pairs_ms_ * tokens_pairs_) / determinant;
  const double per_pair = (pairs_ms_ * tokens2_ - tokens_ms_ * tokens_pairs_) / determinant;
  return per_token > 0 && per_pair >= 0 ? per_pair / per_token : prior_;
}

double PrefillEta::remaining_ms(int32_t from, int32_t at, int32_t total, double ms) const {
  if (at <= from || total <= at) return 0;
  const double pair = pair_work();
  const auto work = [pair](double begin, double end) { return end - begin + pair * pairs_of(begin, end); };
  return ms * work(at, total) / work(from, at);
}

}  // namespace longspan::server
