#include "schedule/scheduler.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"

namespace longspan {
namespace {

// The smallest chunk of prompts beside decoding rows, so that they come to an end on any machine.
constexpr int64_t kLeastChunk = 16;

}  // namespace

Sequence& Scheduler::add(std::unique_ptr<Sequence> sequence) {
  check(sequence->prompt_len >= 1 && kv_.can_ever_fit(sequence->max_computed),
        "a sequence that can never run");
  sequence->tenant_index = share_.enter(sequence->tenant);
  if (!has_prompts(sequence->tenant_index)) share_.begin_prompts(sequence->tenant_index);
  sequence->arrived = prompt_tokens_;
  sequence->number = arrivals_++;
  waiting_.push_back(std::move(sequence));
  return *waiting_.back();
}

bool Scheduler::has_prompts(int32_t tenant) const {
  const auto is_prompt_of = [&](const auto& sequence) {
    return sequence->tenant_index == tenant && !sequence->decoding();
  };
  return std::any_of(waiting_.begin(), waiting_.end(), is_prompt_of) ||
         std::any_of(running_.begin(), running_.end(), is_prompt_of);
}

size_t Scheduler::choose(const std::vector<Sequence*>& eligible) const {
  std::vector<TenantLoad> tenants;
  for (const int64_t served : share_.served()) tenants.push_back({.served = served});
  for (const auto& sequence : running_) ++tenants[sequence->tenant_index].running;
  std::vector<Candidate> candidates;
  for (const Sequence* sequence : eligible)
    candidates.push_back(
        {.tenant = sequence->tenant_index, .due = due_at(sequence->arrived, sequence->pending())});
  return next_admission(candidates, tenants);
}

void Scheduler::admit() {
  std::vector<Sequence*> eligible;
  for (const auto& sequence : waiting_) eligible.push_back(sequence.get());
  while (!eligible.empty() && running() < options_.max_running) {
    const auto chosen = eligible.begin() + static_cast<std::ptrdiff_t>(choose(eligible));
    Sequence& next = **chosen;
    eligible.erase(chosen);
    if (waits_for_start(next)) continue;
    if (!fits(next)) return;
    note_copy(next);
    const auto at = std::find_if(waiting_.begin(), waiting_.end(),
                                 [&](const auto& sequence) { return sequence.get() == &next; });
    running_.push_back(std::move(*at));
    waiting_.erase(at);
  }
}

const Sequence* Scheduler::find_running(uint64_t number) const {
  for (const auto& sequence : running_)
    if (sequence->number == number) return sequence.get();
  return nullptr;
}

// Another one is computing a page or more of what this one starts with, or half of what it lacks.
bool Scheduler::waits_for_start(Sequence& sequence) const {
  if (!kv_.has_prefix_cache() || !sequence.reuse_prefix) return false;
  if (sequence.leader) {
    const Sequence* leader = find_running(*sequence.leader);
    if (leader && !leader->decoding() && leader->computed < sequence.leader_tokens) return true;
    sequence.leader.reset();
  }
  const auto mine = std::span(sequence.tokens).first(sequence.tokens.size() - 1);
  int64_t cached = -1;
  for (const auto& other : running_) {
    if (other->decoding() || other->salt != sequence.salt) continue;
    const auto shared =
        std::mismatch(mine.begin(), mine.end(), other->tokens.begin(), other->tokens.end()).first -
        mine.begin();
    if (shared == 0) continue;
    if (cached < 0) cached = kv_.cached_tokens(sequence.tokens, sequence.salt);
    const int64_t lacking = std::ssize(mine) - cached, gain = shared - cached;
    if (gain < std::min<int64_t>(options_.page_size, std::max<int64_t>(1, lacking / 2))) continue;
    // It shares whole pages as they are done, and the last one at its end.
    const int64_t pages = kv_.pages_needed(shared);
    const auto until =
        static_cast<int32_t>(std::min<int64_t>(pages * options_.page_size, std::ssize(other->tokens)));
    if (other->computed >= until) continue;
    sequence.leader = other->number;
    sequence.leader_tokens = until;
    return true;
  }
  return false;
}

void Scheduler::note_copy(const Sequence& sequence) {
  const std::optional<TailCopy>& copy = sequence.kv->tail_copy();
  if (!copy) return;
  const PagePlace from = kv_.place(copy->from), to = kv_.place(copy->to);
  copies_.push_back({.owner = to.owner,
                     .from = from.local * options_.page_size,
                     .to = to.local * options_.page_size,
                     .tokens = copy->tokens});
}

// Admits it if there are pages.
bool Scheduler::fits(Sequence& sequence) {
  const bool was_preempted = sequence.preemptions > 0;
  // Who was preempted asks for room to go on, and for the others to grow meanwhile: twice as much each time,
  // so that it gets through in the end.
  const int64_t ahead_pages = was_preempted ? int64_t{1} << std::min(sequence.preemptions, 30) : 1;
  const int64_t ahead = was_preempted ? ahead_pages * options_.page_size : 1;
  int64_t spare = 0;
  for (const auto& other : running_) {
    const int64_t left = kv_.pages_needed(other->max_computed) - std::ssize(other->kv->pages());
    spare += was_preempted ? std::min(left, ahead_pages) : 1;
  }
  const auto room =
      static_cast<int32_t>(std::min<int64_t>(std::ssize(sequence.tokens) + ahead, sequence.max_computed));
  sequence.kv = kv_.admit(sequence.tokens, room, sequence.reuse_prefix, spare, sequence.salt);
  if (!sequence.kv) return false;
  sequence.computed = static_cast<int32_t>(sequence.kv->cached_tokens());
  if (!was_preempted) sequence.cached_tokens = sequence.computed;
  return true;
}

// Sequences that grow get their pages, the oldest first.
std::vector<uint64_t> Scheduler::make_room() {
  std::vector<uint64_t> preempted;
  const auto older = [](const auto& a, const auto& b) { return a->number < b->number; };
  std::sort(running_.begin(), running_.end(), older);
  for (size_t i = 0; i < running_.size(); ++i) {
    while (i < running_.size() && !kv_.grow(*running_[i]->kv, std::ssize(running_[i]->tokens))) {
      preempted.push_back(running_.back()->id);
      preempt(running_.size() - 1);
    }
  }
  return preempted;
}

void Scheduler::preempt(size_t victim) {
  Sequence& sequence = *running_[victim];
  if (sequence.computed >= sequence.prompt_len) sequence.reuse_prefix = true;  // every position was computed
  if (!has_prompts(sequence.tenant_index)) share_.begin_prompts(sequence.tenant_index);
  kv_.release(*sequence.kv, sequence.tokens);
  sequence.kv.reset();
  sequence.computed = 0;
  sequence.lost_tokens = static_cast<int32_t>(std::ssize(sequence.tokens));
  ++sequence.preemptions;
  waiting_.push_back(std::move(running_[victim]));
  running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(victim));
}

std::vector<Demand> Scheduler::demands(const std::vector<Standing>& standings) const {
  std::vector<Demand> demands;
  for (const Standing& standing : standings) {
    const Sequence& sequence = *standing.sequence;
    demands.push_back({.pending = standing.pending,
                       .decoding = standing.decoding(),
                       .tenant = sequence.tenant_index,
                       .due = due_at(sequence.arrived, standing.pending)});
  }
  // Who is waited for is due when those are that wait.
  for (const auto& waiting : waiting_) {
    for (size_t i = 0; waiting->leader && i < standings.size(); ++i) {
      if (standings[i].sequence->number == *waiting->leader)
        demands[i].due = std::min(demands[i].due, due_at(waiting->arrived, waiting->pending()));
    }
  }
  return demands;
}

std::optional<ScheduledStep> Scheduler::next() {
  std::vector<uint64_t> preempted = make_room();
  admit();
  if (running_.empty()) return std::nullopt;
  std::vector<Standing> standings;
  for (const auto& sequence : running_)
    standings.push_back({sequence.get(), sequence->computed, sequence->pending()});
  const std::vector<Demand> wanted = demands(standings);
  const std::vector<int32_t> allotted = allot_tokens(wanted, share_.served(), step_budget(wanted), round_++);
  ScheduledStep step = make_step(allotted);
  if (options_.foresees) step.batch.next = foresee(allotted);
  step.preempted = std::move(preempted);
  return step;
}

// The next step if nobody comes, stops early or is preempted, and max_step_ms binds no chunk. Rows that will
// grow get their pages now.
BatchLayout Scheduler::foresee(const std::vector<int32_t>& allotted) {
  std::vector<Standing> standings;
  std::vector<int64_t> served = share_.served();
  int64_t missing = 0;  // pages
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const int32_t computed = sequence.computed + allotted[i];
    if (!sequence.decoding()) served[sequence.tenant_index] += allotted[i];
    if (computed >= sequence.max_computed) continue;
    // At the end of what is known a token is drawn.
    standings.push_back({&sequence, computed, std::max(sequence.pending() - allotted[i], 1)});
    const int64_t pages = kv_.pages_needed(computed + standings.back().pending);
    missing += std::max<int64_t>(0, pages - std::ssize(sequence.kv->pages()));
  }
  if (missing > kv_.available_pages()) return {};
  for (const Standing& standing : standings)
    check(kv_.grow(*standing.sequence->kv, standing.computed + standing.pending), "there are pages");
  std::sort(standings.begin(), standings.end(),
            [](const Standing& a, const Standing& b) { return a.sequence->number < b.sequence->number; });
  const std::vector<int32_t> next =
      allot_tokens(demands(standings), served, options_.max_tokens_per_step, round_);
  BatchLayout layout;
  std::vector<const Sequence*> sequences;
  for (size_t i = 0; i < next.size(); ++i) {
    if (next[i] == 0) continue;
    layout.rows.push_back({.new_tokens = next[i], .prefix_len = standings[i].computed});
    sequences.push_back(standings[i].sequence);
  }
  export_pages(sequences, layout);
  return layout;
}

int64_t Scheduler::step_budget(const std::vector<Demand>& demands) const {
  const int64_t most = options_.max_tokens_per_step;
  StepWork decode_work;
  int64_t decoding = 0, pending = 0;
  for (size_t i = 0; i < demands.size(); ++i) {
    pending += demands[i].pending;
    if (!demands[i].decoding) continue;
    ++decoding;
    decode_work.add(1, running_[i]->computed);
  }
  if (options_.max_step_ms <= 0 || decoding == 0 || decoding == std::ssize(demands) || !prompt_cost_.known())
    return most;
  // Either may be stretched to more rows than it has seen: the smaller promises no more than it should.
  double idle_ms = prompt_cost_.predict_ms(decode_work);
  if (decode_cost_.known()) idle_ms = std::min(idle_ms, decode_cost_.predict_ms(decode_work));
  const double limit_ms = std::max(options_.max_step_ms, 2 * idle_ms);
  const auto fits = [&](int64_t budget) {
    const std::vector<int32_t> allotted = allot_tokens(demands, share_.served(), budget, round_);
    StepWork work;
    for (size_t i = 0; i < allotted.size(); ++i) work.add(allotted[i], running_[i]->computed);
    return prompt_cost_.cautious_ms(work) <= limit_ms;
  };
  return largest_that_fits(std::min(most, decoding + kLeastChunk), std::min(most, pending), fits);
}

ScheduledStep Scheduler::make_step(const std::vector<int32_t>& allotted) {
  ScheduledStep step;
  step.batch.copies = std::exchange(copies_, {});
  for (size_t i = 0; i < running_.size(); ++i) {
    if (allotted[i] == 0) continue;
    Sequence& sequence = *running_[i];
    step.sequences.push_back(&sequence);
    step.has_prompts |= !sequence.decoding();
    step.batch.rows.push_back({.new_tokens = allotted[i], .prefix_len = sequence.computed});
    const auto first = sequence.tokens.begin() + sequence.computed;
    step.batch.token_ids.insert(step.batch.token_ids.end(), first, first + allotted[i]);
  }
  export_pages({step.sequences.begin(), step.sequences.end()}, step.batch);
  return step;
}

void Scheduler::export_pages(const std::vector<const Sequence*>& sequences, BatchLayout& layout) const {
  layout.page_size = options_.page_size;
  for (const Sequence* sequence : sequences)
    layout.max_pages = std::max(layout.max_pages, static_cast<int32_t>(sequence->kv->pages().size()));
  layout.block_table.resize(sequences.size() * layout.max_pages);
  if (kv_.owners() > 1) layout.page_owner.resize(layout.block_table.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto row_of = [&](std::vector<int32_t>& table) {
      return table.empty() ? std::span<int32_t>()
                           : std::span(table).subspan(i * layout.max_pages, layout.max_pages);
    };
    kv_.export_row(*sequences[i]->kv, row_of(layout.block_table), row_of(layout.page_owner));
  }
}

void Scheduler::complete(const ScheduledStep& step) {
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    Sequence& sequence = *step.sequences[i];
    const int32_t new_tokens = step.batch.rows[i].new_tokens;
    if (!sequence.decoding()) {
      share_.charge(sequence.tenant_index, new_tokens);
      prompt_tokens_ += new_tokens;
    }
    sequence.computed += new_tokens;
    kv_.commit(*sequence.kv, sequence.tokens, sequence.computed);
  }
}

void Scheduler::observe(const ScheduledStep& step, double ms) {
  (step.has_prompts ? prompt_cost_ : decode_cost_).observe(work_of(step.batch.rows), ms);
}

void Scheduler::remove(Sequence& sequence) {
  share_.leave(sequence.tenant_index);
  if (sequence.kv) kv_.release(*sequence.kv, sequence.tokens);
  const auto is_it = [&](const auto& other) { return other.get() == &sequence; };
  if (std::erase_if(running_, is_it) == 0) std::erase_if(waiting_, is_it);
}

void Scheduler::check_integrity() const {
  std::vector<const KvSequence*> live;
  for (const auto& sequence : running_) live.push_back(&*sequence->kv);
  kv_.check_integrity(live);
}

}  // namespace longspan
