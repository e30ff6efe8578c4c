#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>

#include "core/group.h"
#include "core/meeting_point.h"
#include "core/timing.h"

namespace cann_sim {

/// A rank whose group has ranks in other processes. What it sends is copied to the meeting point when its
/// stream comes to the call; once all have come each rank compares the calls and makes its own results, in
/// the same order as ranks of one process would.
class ProcessGroup final : public Group {
 public:
  /// `point`: where all have sat down.
  ProcessGroup(std::unique_ptr<MeetingPoint> point, uint32_t ranks, uint32_t rank, std::chrono::seconds limit)
      : point_(std::move(point)), ranks_(ranks), rank_(rank), limit_(limit) {}
  ~ProcessGroup() override;
  uint32_t size() const override { return ranks_; }
  void enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body) override;
  std::optional<Fault> failure() const override;

 private:
  using State = MeetingPoint::State;
  bool has_room(uint64_t index) const;
  void come(uint64_t index, const CollectiveCall& call, const MeetingTime& mine);
  bool can_end(uint64_t index) const;
  void end(uint64_t index, const CollectiveCall& call, const CollectiveBody& body, MeetingTime& all);
  std::vector<CollectiveCall> all_calls(uint64_t index, const CollectiveCall& mine) const;
  void check_unchanged(uint64_t index, const CollectiveCall& call) const;
  std::optional<Fault> trouble(const State& state, uint64_t index, const std::string& name) const;
  [[noreturn]] void lose(const Fault& fault);

  const std::unique_ptr<MeetingPoint> point_;
  const uint32_t ranks_, rank_;
  const std::chrono::seconds limit_;  // 0: none
  std::atomic<uint64_t> next_ = 0;    // index of the next call
  mutable std::mutex mutex_;
  std::optional<Fault> lost_;  // why, once this rank knows that the group is; under the mutex
};

}  // namespace cann_sim
