#pragma once

#include <chrono>
#include <map>
#include <mutex>

#include "core/group.h"
#include "core/timing.h"

namespace cann_sim {

/// Ranks that are threads of this process: all share the object, and each sees the others' memory.
class ThreadGroup final : public Group {
 public:
  ThreadGroup(uint32_t ranks, std::chrono::seconds limit) : ranks_(ranks), limit_(limit) {}
  uint32_t size() const override { return ranks_; }
  void enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body) override;
  std::optional<Fault> failure() const override;

 private:
  struct Arrivals {
    std::vector<std::optional<CollectiveCall>> calls;
    uint32_t arrived = 0;
    std::chrono::steady_clock::time_point first;
    bool done = false;
  };
  std::shared_ptr<MeetingTime> time_of(uint64_t index);
  bool ready(uint64_t index, uint32_t rank, const CollectiveCall& call);
  void run(uint64_t index, const CollectiveBody& body);
  std::vector<CollectiveCall> all_calls(const Arrivals& arrivals) const;

  const uint32_t ranks_;
  const std::chrono::seconds limit_;  // 0: none
  mutable std::mutex mutex_;
  std::map<uint32_t, uint64_t> next_;  // index of each rank's next call
  /// Where the n-th calls meet, by the model of time, and how many have asked.
  std::map<uint64_t, std::pair<std::shared_ptr<MeetingTime>, uint32_t>> times_;
  std::map<uint64_t, Arrivals> arrivals_;
  std::optional<Fault> failure_;
};

}  // namespace cann_sim
