#include "schedule/traffic.h"

#include <gtest/gtest.h>

#include <set>

namespace longspan::testing_support {

Traffic::Traffic(KvCache& kv, Scheduler& scheduler, const SchedulerOptions& options,
                 const TrafficOptions& traffic)
    : kv_(kv), scheduler_(scheduler), options_(options), traffic_(traffic), random_(traffic.seed) {}

TrafficEnd Traffic::run() {
  const int64_t longest = 1000 + 400 * traffic_.arrivals;
  while (static_cast<int64_t>(next_id_) <= traffic_.arrivals || !open_.empty()) {
    if (end_.steps > longest || testing::Test::HasFatalFailure()) {
      ADD_FAILURE() << open_.size() << " requests are left after " << end_.steps << " steps";
      break;
    }
    while (static_cast<int64_t>(next_id_) <= traffic_.arrivals && below(3) == 0) arrive();
    run_step();
    if (!open_.empty() && below(100) < traffic_.cancelled_percent) {
      const auto victim = std::next(open_.begin(), below(std::ssize(open_)));
      scheduler_.remove(*victim->second.sequence);
      open_.erase(victim);
      ++end_.cancelled;
      disturbed_ = true;
    }
    scheduler_.check_integrity();
  }
  return end_;
}

void Traffic::arrive() {
  auto sequence = std::make_unique<Sequence>();
  Open open;
  sequence->id = next_id_++;
  sequence->prompt_len = static_cast<int32_t>(1 + below(traffic_.longest_prompt));
  for (int32_t i = 0; i < sequence->prompt_len; ++i)
    sequence->tokens.push_back(static_cast<int32_t>(below(traffic_.distinct_tokens)));
  open.answer = static_cast<int32_t>(below(traffic_.longest_answer + 1));
  sequence->max_computed = sequence->prompt_len + std::max(open.answer - 1, 0);
  sequence->reuse_prefix = below(8) != 0;
  sequence->salt = below(8) == 0 ? "salt" : "";
  sequence->tenant = std::to_string(below(traffic_.tenants));
  open.known = sequence->tokens;
  disturbed_ = true;
  const uint64_t id = sequence->id;
  open.sequence = &scheduler_.add(std::move(sequence));
  open_.emplace(id, std::move(open));
}

void Traffic::run_step() {
  ++end_.steps;
  disturbed_ |= scheduler_.waiting() > 0;
  const auto step = scheduler_.next();
  ASSERT_EQ(step.has_value(), !open_.empty()) << "whoever is there can go on";
  if (!step) return;
  end_.preempted += std::ssize(step->preempted);
  ASSERT_LE(std::ssize(step->batch.token_ids), options_.max_tokens_per_step);
  ASSERT_LE(scheduler_.running(), options_.max_running);
  ASSERT_EQ(scheduler_.running() + scheduler_.waiting(), std::ssize(open_)) << "no request is lost";
  ASSERT_EQ(step->batch.page_owner.empty(), kv_.owners() == 1);
  verify_foreseen(*step);
  copy_rows(step->batch.copies);
  std::set<Place> written;
  size_t token = 0;
  for (size_t row = 0; row < step->sequences.size(); ++row) {
    const Sequence& sequence = *step->sequences[row];
    verify_row(*step, row, token);
    if (testing::Test::HasFatalFailure()) return;
    for (int32_t i = 0; i < step->batch.rows[row].new_tokens; ++i, ++token) {
      const int32_t position = sequence.computed + i;
      const Place place{kv_.owners() == 1 ? 0 : step->batch.owner(static_cast<int32_t>(row), position),
                        step->batch.slot(static_cast<int32_t>(row), position)};
      ASSERT_GE(place.second, options_.page_size) << "page 0 is nobody's";
      ASSERT_TRUE(written.insert(place).second) << "two rows in one slot";
      memory_[place] = {sequence.tokens.begin(), sequence.tokens.begin() + position + 1};
    }
  }
  std::vector<uint64_t> reached;
  for (size_t row = 0; row < step->sequences.size(); ++row)
    if (step->reaches_end(row)) reached.push_back(step->sequences[row]->id);
  scheduler_.complete(*step);
  for (const uint64_t id : reached) {
    Open& open = open_.at(id);
    if (std::ssize(open.known) - open.sequence->prompt_len < open.answer) {
      open.known.push_back(static_cast<int32_t>(below(50)));
      if (std::ssize(open.known) - open.sequence->prompt_len < open.answer) {
        open.sequence->tokens.push_back(open.known.back());
        continue;
      }
    }
    finish(id);
  }
}

void Traffic::verify_foreseen(const ScheduledStep& step) {
  const bool as_expected = step.batch.rows == expected_.rows;
  const bool was_foreseen = !expected_.rows.empty();  // there were pages for everybody
  ASSERT_TRUE(as_expected || !was_foreseen || disturbed_ || !step.preempted.empty()) << "step " << end_.steps;
  end_.foreseen += as_expected;
  end_.pages_foreseen += as_expected && expected_ == step.batch;
  expected_ = step.batch.next;
  disturbed_ = false;
}

void Traffic::copy_rows(const std::vector<RowCopy>& copies) {
  for (const RowCopy& copy : copies) {
    ++end_.copies;
    for (int32_t i = 0; i < copy.tokens; ++i) {
      const Place from{copy.owner, copy.from + i};
      ASSERT_TRUE(memory_.contains(from)) << "only what was computed is copied";
      memory_[{copy.owner, copy.to + i}] = memory_[from];
    }
  }
}

void Traffic::verify_row(const ScheduledStep& step, size_t row, size_t first_token) {
  const Sequence& sequence = *step.sequences[row];
  const BatchRow& batch_row = step.batch.rows[row];
  ASSERT_EQ(sequence.tokens, open_.at(sequence.id).known);
  ASSERT_GE(std::ssize(sequence.kv->pages()) * options_.page_size, sequence.computed + batch_row.new_tokens);
  ASSERT_EQ(batch_row.prefix_len, sequence.computed);
  ASSERT_GE(batch_row.new_tokens, 1);
  ASSERT_LE(batch_row.new_tokens, sequence.pending());
  for (int32_t i = 0; i < batch_row.new_tokens; ++i)
    ASSERT_EQ(step.batch.token_ids[first_token + i], sequence.tokens[sequence.computed + i]);
  for (int32_t position = 0; position < sequence.computed; ++position) {
    const Place place{kv_.owners() == 1 ? 0 : step.batch.owner(static_cast<int32_t>(row), position),
                      step.batch.slot(static_cast<int32_t>(row), position)};
    const std::vector<int32_t>& made_from = memory_[place];
    ASSERT_EQ(std::ssize(made_from), position + 1);
    ASSERT_TRUE(std::equal(made_from.begin(), made_from.end(), sequence.tokens.begin()));
  }
}

void Traffic::finish(uint64_t id) {
  const Open& open = open_.at(id);
  end_.cached_tokens += open.sequence->cached_tokens;
  scheduler_.remove(*open.sequence);
  open_.erase(id);
  ++end_.finished;
}

}  // namespace longspan::testing_support
