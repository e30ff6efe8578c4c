#include "cli/load_stats.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace longspan::cli {
namespace {

bool within(double seconds, double limit_ms) {
  return limit_ms <= 0 || seconds * 1000 <= limit_ms;
}

}  // namespace

Percentiles percentiles_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](size_t percent) { return values[(values.size() * percent + 99) / 100 - 1]; };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = values.size(),
          .mean = sum / static_cast<double>(values.size()),
          .p50 = at(50),
          .p90 = at(90),
          .p99 = at(99),
          .most = values.back()};
}

bool is_good(const LoadSample& sample, const LoadLimits& limits) {
  if (!sample.failure.empty() || !sample.first) return false;
  const double gaps = std::accumulate(sample.gaps.begin(), sample.gaps.end(), 0.0);
  const double mean_gap = sample.gaps.empty() ? 0 : gaps / static_cast<double>(sample.gaps.size());
  return within(*sample.first - sample.due, limits.ttft_ms) && within(mean_gap, limits.token_ms) &&
         within(sample.end - sample.due, limits.e2e_ms);
}

LoadSummary summarize(const std::vector<LoadSample>& samples, const LoadLimits& limits) {
  LoadSummary summary;
  std::vector<double> ttft, gaps, e2e;
  for (const LoadSample& sample : samples) {
    ++summary.requests;
    summary.late_ms = std::max(summary.late_ms, (sample.sent - sample.due) * 1000);
    if (!sample.failure.empty()) {
      ++summary.failures[sample.failure];
      continue;
    }
    ++summary.answered;
    summary.good += is_good(sample, limits);
    summary.prompt_tokens += sample.prompt_tokens;
    summary.cached_tokens += sample.cached_tokens;
    summary.new_tokens += sample.new_tokens;
    if (sample.first) ttft.push_back((*sample.first - sample.due) * 1000);
    for (const double gap : sample.gaps) gaps.push_back(gap * 1000);
    e2e.push_back((sample.end - sample.due) * 1000);
  }
  summary.ttft_ms = percentiles_of(std::move(ttft));
  summary.token_ms = percentiles_of(std::move(gaps));
  summary.e2e_ms = percentiles_of(std::move(e2e));
  return summary;
}

}  // namespace longspan::cli
