#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "schedule/scheduler.h"

namespace longspan::testing_support {

struct TrafficOptions {
  uint32_t seed = 0;
  int64_t arrivals = 0;
  int32_t tenants = 1;
  int32_t longest_prompt = 60, longest_answer = 20;  // tokens
  int32_t distinct_tokens = 1000000;                 // few: many prompts start alike
  int32_t cancelled_percent = 0;
};

struct TrafficEnd {
  int64_t finished = 0, cancelled = 0, steps = 0, preempted = 0, copies = 0;
  int64_t foreseen = 0;        // steps with the rows that the one before expected
  int64_t pages_foreseen = 0;  // and with the pages
  int64_t cached_tokens = 0;   // of prompts, found in the prefix tree
};

/// Sequences come at random, are computed, answered with random tokens, and end or are cancelled. After each
/// step: no budget is passed, every row is what its sequence needs next, no slot is written twice, page 0
/// never, what a sequence reads was computed from its own tokens, and every page is accounted for; and where
/// nobody has come, waited, been cancelled or preempted since the step before, that foresaw the rows.
class Traffic {
 public:
  Traffic(KvCache& kv, Scheduler& scheduler, const SchedulerOptions& options, const TrafficOptions& traffic);

  /// Until all have come and gone; fails the test if that takes too long.
  TrafficEnd run();

 private:
  struct Open {
    Sequence* sequence = nullptr;
    int32_t answer = 0;               // tokens it will have in the end
    std::vector<int32_t> known = {};  // its tokens so far, as the scheduler must have them
  };
  using Place = std::pair<int32_t, int32_t>;  // owner and slot

  int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random_); }
  void arrive();
  void run_step();
  void verify_foreseen(const ScheduledStep& step);
  void copy_rows(const std::vector<RowCopy>& copies);
  void verify_row(const ScheduledStep& step, size_t row, size_t first_token);
  void finish(uint64_t id);

  KvCache& kv_;
  Scheduler& scheduler_;
  const SchedulerOptions options_;
  const TrafficOptions traffic_;
  std::mt19937 random_;
  std::map<uint64_t, Open> open_;
  std::map<Place, std::vector<int32_t>> memory_;  // the tokens that a slot's row was made from
  uint64_t next_id_ = 1;
  BatchLayout expected_;   // the next step
  bool disturbed_ = true;  // since the last step
  TrafficEnd end_;
};

}  // namespace longspan::testing_support
