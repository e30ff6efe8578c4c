#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace longspan::cli {

/// One request of a load run; times in seconds on one clock.
struct LoadSample {
  double due = 0, sent = 0;     // when it arrived, and when there was a connection for it
  std::optional<double> first;  // first text
  double end = 0;
  std::vector<double> gaps;                                      // between texts
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;  // 0: the server did not say
  std::string failure;                                           // "": it was answered
};

/// By nearest rank: a percentile is one of the values. All 0 if there are none.
struct Percentiles {
  size_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;
};
Percentiles percentiles_of(std::vector<double> values);

/// What a good answer keeps within, in milliseconds; 0: no limit.
struct LoadLimits {
  double ttft_ms = 0;
  double token_ms = 0;  // the mean of its own gaps
  double e2e_ms = 0;
};

struct LoadSummary {
  int64_t requests = 0, answered = 0;
  int64_t good = 0;                         // answered and within the limits
  std::map<std::string, int64_t> failures;  // by reason
  Percentiles ttft_ms, token_ms, e2e_ms;  // of those answered, from when they were due; token_ms: of all gaps
  double late_ms = 0;                     // the most that one was sent after it was due
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
};

bool is_good(const LoadSample& sample, const LoadLimits& limits);
LoadSummary summarize(const std::vector<LoadSample>& samples, const LoadLimits& limits);

}  // namespace longspan::cli
