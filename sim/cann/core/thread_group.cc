#include "core/thread_group.h"

#include <numeric>

namespace cann_sim {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<uint32_t> all_ranks(size_t ranks) {
  std::vector<uint32_t> all(ranks);
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

class ThreadMeeting final : public Meeting {
 public:
  explicit ThreadMeeting(const std::vector<CollectiveCall>& of_ranks)
      : Meeting(of_ranks, all_ranks(of_ranks.size())) {}
  std::vector<char> sent(uint32_t rank, uint64_t offset, uint64_t count) const override {
    return load_bytes(buffer(calls[rank], rank, true, offset, count));
  }
};

}  // namespace

void ThreadGroup::enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body) {
  uint64_t index = 0;
  std::shared_ptr<MeetingTime> time;
  {
    const std::lock_guard lock(mutex_);
    index = next_[rank]++;
    time = time_of(index);
  }
  count_collective(call);
  const auto self = std::static_pointer_cast<ThreadGroup>(shared_from_this());
  const auto kept = std::make_shared<const CollectiveCall>(std::move(call));
  Runtime::get().conductor().enqueue(
      stream, {.name = kept->name,
               .run =
                   [self, index, body, kept] {
                     self->run(index, body);
                     if (kept->afterwards) kept->afterwards();
                   },
               .ready = [self, index, rank, kept] { return self->ready(index, rank, *kept); },
               .stall = kept->stall,
               .timing = {.kind = "collective", .cost = kept->cost, .meeting = time}});
}

std::shared_ptr<MeetingTime> ThreadGroup::time_of(uint64_t index) {
  auto& [time, asked] = times_[index];
  if (!time) time = std::make_shared<MeetingTime>();
  const auto kept = time;
  if (++asked == ranks_) times_.erase(index);
  return kept;
}

// Its stream has reached the call: the rank has come. Under the conductor's lock.
bool ThreadGroup::ready(uint64_t index, uint32_t rank, const CollectiveCall& call) {
  const std::lock_guard lock(mutex_);
  Arrivals& arrivals = arrivals_[index];
  if (arrivals.calls.empty()) {
    arrivals.calls.resize(ranks_);
    arrivals.first = Clock::now();
  }
  if (!arrivals.calls[rank]) {
    arrivals.calls[rank] = call;
    ++arrivals.arrived;
  }
  const bool late = limit_.count() > 0 && Clock::now() - arrivals.first >= limit_;
  return failure_ || arrivals.done || arrivals.arrived == ranks_ || late;
}

void ThreadGroup::run(uint64_t index, const CollectiveBody& body) {
  const std::lock_guard lock(mutex_);
  if (failure_) throw Fault(*failure_);
  Arrivals& arrivals = arrivals_[index];
  if (!arrivals.done) {
    try {
      const ThreadMeeting meeting(all_calls(arrivals));
      compare(meeting.calls);
      body(meeting);
    } catch (const Fault& fault) {
      failure_ = fault;
      throw;
    }
  }
  arrivals.done = true;
  if (--arrivals.arrived == 0) arrivals_.erase(index);
}

// Throws Fault where some are missing.
std::vector<CollectiveCall> ThreadGroup::all_calls(const Arrivals& arrivals) const {
  std::vector<CollectiveCall> calls;
  std::vector<uint32_t> missing;
  for (uint32_t rank = 0; rank < ranks_; ++rank) {
    if (arrivals.calls[rank])
      calls.push_back(*arrivals.calls[rank]);
    else
      missing.push_back(rank);
  }
  if (!missing.empty()) throw never_came(calls[0].name, limit_.count(), missing, ranks_);
  return calls;
}

std::optional<Fault> ThreadGroup::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace cann_sim
