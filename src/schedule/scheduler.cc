#include "schedule/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {

Sequence& Scheduler::add(std::unique_ptr<Sequence> sequence) {
  check(sequence->prompt_len >= 1 && kv_.can_ever_fit(sequence->max_computed),
        "a sequence that can never run");
  sequence->tenant_index = share_.enter(sequence->tenant);
  if (!has_prompts(sequence->tenant_index)) share_.begin_prompts(sequence->tenant_index);
  sequence->arrived = prompt_tokens_;
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

size_t Scheduler::choose_waiting() const {
  std::vector<TenantLoad> tenants;
  for (const int64_t served : share_.served()) tenants.push_back({.served = served});
  for (const auto& sequence : running_) ++tenants[sequence->tenant_index].running;
  std::vector<Candidate> candidates;
  for (const auto& sequence : waiting_)
    candidates.push_back(
        {.tenant = sequence->tenant_index, .due = due_at(sequence->arrived, sequence->pending())});
  return next_admission(candidates, tenants);
}

void Scheduler::admit() {
  while (!waiting_.empty() && std::ssize(running_) < options_.max_running) {
    const auto chosen = waiting_.begin() + static_cast<std::ptrdiff_t>(choose_waiting());
    Sequence& next = **chosen;
    next.kv = kv_.admit(next.tokens, next.max_computed, next.reuse_prefix);
    if (!next.kv) return;
    next.computed = static_cast<int32_t>(next.kv->cached_tokens());
    running_.push_back(std::move(*chosen));
    waiting_.erase(chosen);
  }
}

std::vector<Demand> Scheduler::demands() const {
  std::vector<Demand> demands;
  for (const auto& sequence : running_) {
    demands.push_back({.pending = sequence->pending(),
                       .decoding = sequence->decoding(),
                       .tenant = sequence->tenant_index,
                       .due = due_at(sequence->arrived, sequence->pending())});
  }
  return demands;
}

std::optional<ScheduledStep> Scheduler::next() {
  admit();
  if (running_.empty()) return std::nullopt;
  return make_step(allot_tokens(demands(), share_.served(), options_.max_tokens_per_step, round_++));
}

ScheduledStep Scheduler::make_step(const std::vector<int32_t>& allotted) {
  ScheduledStep step;
  step.batch.page_size = options_.page_size;
  for (size_t i = 0; i < running_.size(); ++i) {
    if (allotted[i] == 0) continue;
    Sequence& sequence = *running_[i];
    step.sequences.push_back(&sequence);
    step.batch.rows.push_back({.new_tokens = allotted[i], .prefix_len = sequence.computed});
    const auto first = sequence.tokens.begin() + sequence.computed;
    step.batch.token_ids.insert(step.batch.token_ids.end(), first, first + allotted[i]);
    step.batch.max_pages = std::max(step.batch.max_pages, static_cast<int32_t>(sequence.kv->pages().size()));
  }
  Batch& batch = step.batch;
  batch.block_table.resize(step.sequences.size() * batch.max_pages);
  if (kv_.owners() > 1) batch.page_owner.resize(batch.block_table.size());
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const auto row_of = [&](std::vector<int32_t>& table) {
      return table.empty() ? std::span<int32_t>()
                           : std::span(table).subspan(i * batch.max_pages, batch.max_pages);
    };
    kv_.export_row(*step.sequences[i]->kv, row_of(batch.block_table), row_of(batch.page_owner));
  }
  return step;
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

void Scheduler::remove(Sequence& sequence) {
  share_.leave(sequence.tenant_index);
  if (sequence.kv) kv_.release(*sequence.kv);
  const auto is_it = [&](const auto& other) { return other.get() == &sequence; };
  if (std::erase_if(running_, is_it) == 0) std::erase_if(waiting_, is_it);
}

void Scheduler::check_integrity() const {
  std::vector<const KvSequence*> live;
  for (const auto& sequence : running_) live.push_back(&*sequence->kv);
  kv_.check_integrity(live);
}

}  // namespace longspan
