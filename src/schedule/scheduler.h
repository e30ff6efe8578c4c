#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kv/kv_cache.h"
#include "plan/batch.h"
#include "schedule/fair_share.h"
#include "schedule/policy.h"
#include "schedule/step_cost.h"

namespace longspan {

/// A request as the scheduler sees it: tokens, and the KV they have.
struct Sequence {
  uint64_t id = 0;
  std::vector<int32_t> tokens;   // prompt, then generated ones
  int32_t prompt_len = 0;        // tokens, >= 1
  int32_t max_computed = 0;      // tokens whose KV may ever be needed
  bool reuse_prefix = true;      // may start from cached KV
  std::string tenant = {};       // whose it is: tenants share the engine evenly
  std::string salt = {};         // cached KV is shared with the same salt alone
  int32_t computed = 0;          // tokens whose KV is in the pool
  std::optional<KvSequence> kv;  // once admitted

  // The scheduler's own.
  int32_t tenant_index = 0;
  int64_t arrived = 0;        // prompt tokens computed for anybody until it came
  uint64_t number = 0;        // in order of arrival
  int32_t cached_tokens = 0;  // of the prompt, found in the prefix tree when it was admitted first
  int32_t lost_tokens = 0;    // it was preempted with so many known ones
  int32_t preemptions = 0;
  std::optional<uint64_t> leader = {};  // number of the one that computes a start of its prompt
  int32_t leader_tokens = 0;            // how far that must have come

  /// What is known at the start has KV: tokens come one by one now.
  bool decoding() const { return decodes_from(computed); }
  bool decodes_from(int32_t position) const { return position >= std::max(prompt_len, lost_tokens); }
  /// Known tokens without KV.
  int32_t pending() const { return static_cast<int32_t>(std::ssize(tokens)) - computed; }
};

struct SchedulerOptions {
  int32_t max_running = 32;
  int64_t max_tokens_per_step = std::numeric_limits<int64_t>::max();
  int32_t page_size = 128;
  /// While rows decode, a prompt's chunk is as large as keeps the step within this, or within twice what the
  /// rows take alone where that is longer; 0: no such bound.
  double max_step_ms = 0;
  bool foresees = true;  // the step after: Batch::next
};

/// One step: the batch, and which sequence each of its rows is.
struct ScheduledStep {
  Batch batch;
  std::vector<Sequence*> sequences;  // [bs]
  bool has_prompts = false;          // else all its rows decode
  std::vector<uint64_t> preempted;   // ids of sequences that gave their pages back for this step

  /// The row ends at its sequence's last known token: its logits give the next one.
  bool reaches_end(size_t row) const {
    return sequences[row]->computed + batch.rows[row].new_tokens == std::ssize(sequences[row]->tokens);
  }
};

/// Continuous batching: which sequence is admitted next, and how many tokens each may compute, is what
/// schedule/policy.h says. While one computes what another starts with, too, that waits and finds it in the
/// prefix tree. A sequence is admitted once there are pages for the tokens that are known, and one
/// more for each sequence that runs; until the chosen one fits, nobody passes it. If pages run out as
/// sequences grow, the youngest gives its own back, and computes what it had again later, once there is room
/// for its whole life beside those that run. The oldest is never taken from, and can have the whole pool, so
/// that all come to their end. Knows tokens and pages, no tensors and no text. Not thread-safe.
class Scheduler {
 public:
  Scheduler(KvCache& kv, const SchedulerOptions& options) : kv_(kv), options_(options) {}

  /// Queues a sequence; it must fit the pool (KvCache::can_ever_fit).
  Sequence& add(std::unique_ptr<Sequence> sequence);
  /// Admits what fits and chooses the next step's rows; nothing if there is nothing to run.
  std::optional<ScheduledStep> next();
  /// Notes that a step's tokens have KV now, and offers full pages to later prompts.
  void complete(const ScheduledStep& step);
  /// How long a step took, from its choice to the choice of the next.
  void observe(const ScheduledStep& step, double ms);
  /// Forgets a sequence, waiting or running, and gives its pages back. Invalidates the reference.
  void remove(Sequence& sequence);

  int64_t running() const { return std::ssize(running_); }
  int64_t waiting() const { return std::ssize(waiting_); }
  /// Throws Error(kInternal) if pages and sequences contradict each other.
  void check_integrity() const;

 private:
  void admit();
  bool fits(Sequence& sequence);
  bool waits_for_start(Sequence& sequence) const;
  const Sequence* find_running(uint64_t number) const;
  std::vector<uint64_t> make_room();
  void preempt(size_t victim);
  /// Where a sequence stands before a step.
  struct Standing {
    Sequence* sequence;
    int32_t computed = 0;
    int32_t pending = 0;  // known tokens without KV

    bool decoding() const { return sequence->decodes_from(computed); }
  };
  size_t choose(const std::vector<Sequence*>& eligible) const;
  bool has_prompts(int32_t tenant) const;
  std::vector<Demand> demands(const std::vector<Standing>& standings) const;
  int64_t step_budget(const std::vector<Demand>& demands) const;
  ScheduledStep make_step(const std::vector<int32_t>& allotted);
  BatchLayout foresee(const std::vector<int32_t>& allotted);
  void export_pages(const std::vector<const Sequence*>& sequences, BatchLayout& layout) const;
  void note_copy(const Sequence& sequence);

  KvCache& kv_;
  SchedulerOptions options_;
  std::vector<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<RowCopy> copies_;  // for those admitted since the last step
  FairShare share_;
  StepCost prompt_cost_, decode_cost_;  // of steps with prompts, and without
  int64_t prompt_tokens_ = 0;           // computed so far
  uint64_t round_ = 0;
  uint64_t arrivals_ = 0;
};

}  // namespace longspan
