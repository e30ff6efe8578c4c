#pragma once

#include <longspan/request.h>

#include <functional>
#include <ostream>
#include <string>

namespace longspan::cli {

/// Shows prefill progress on `err`: one bar that redraws itself on a terminal, else a line now and then.
class PrefillProgress {
 public:
  PrefillProgress(std::ostream& err, bool terminal, std::function<double()> now)
      : err_(err), terminal_(terminal), now_(std::move(now)) {}

  void update(const Progress& progress);
  /// Takes the bar off the screen.
  void clear();

 private:
  std::ostream& err_;
  bool terminal_;
  std::function<double()> now_;
  bool drawn_ = false;
  double last_fraction_ = 0;  // when something was last printed
  double last_time_ = -1e9;   // seconds
};

/// When a line about a run of many requests is due: every five seconds at most.
class ProgressPace {
 public:
  explicit ProgressPace(double now) : last_(now) {}

  /// If so, the next one is due five seconds from `now`, which is in seconds.
  bool due(double now);

 private:
  double last_;  // seconds
};

/// "prefill 8192/12345 tokens, 4096 tokens/s, ETA 1.0 s".
std::string progress_text(const Progress& progress);

}  // namespace longspan::cli
