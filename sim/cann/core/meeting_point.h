#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "core/fault.h"

namespace cann_sim {

/// Where the ranks of a communicator meet, of one process or of several: a file in memory that each of them
/// opens for itself. It has no name in any folder, so nothing is left however its processes end. Its state is
/// read and changed under a lock of the kernel's, and a rank that sits there holds another: both end with the
/// process. Thread-safe.
class MeetingPoint {
 public:
  static constexpr uint32_t kMostRanks = 32;
  /// Collectives that may be under way at once, by their index modulo this.
  static constexpr uint32_t kSlots = 4;

  /// What a root info says of it.
  struct Address {
    uint64_t id = 0;
    int32_t pid = 0, descriptor = -1;
  };

  struct Seat {
    int32_t pid = 0;  // 0: free
    int32_t device = -1;
    // For each slot, 1 + the index of the last call that the rank has come to, and is done with.
    uint64_t came[kSlots] = {}, done[kSlots] = {};
    // Of the calls that it has come to, by the model of time: when, and how long it would take alone.
    double begin[kSlots] = {}, seconds[kSlots] = {};
  };
  struct State {
    uint64_t id = 0;
    uint32_t ranks = 0;     // as the first to come says
    bool complete = false;  // all have come once
    int32_t fault = 0;      // of the group
    char text[1000] = {};   // of the fault
    int64_t first_ns[kSlots] = {};  // when the first rank came to the call in this slot
    Seat seats[kMostRanks];
  };

  /// A new one, which is there as long as this object, or anyone's who has opened it.
  MeetingPoint();
  /// Throws Fault(HCCL_E_PARA) where there is none any more.
  explicit MeetingPoint(const Address& address);
  ~MeetingPoint();
  MeetingPoint(const MeetingPoint&) = delete;
  MeetingPoint& operator=(const MeetingPoint&) = delete;

  Address address() const { return address_; }
  State look() const;
  /// What `how` makes of the state is written, unless it throws.
  void change(const std::function<void(State&)>& how);

  /// As long as this object is there, so is the rank. Within change().
  void sit(uint32_t rank);
  void stand_up(uint32_t rank);
  /// Whether a rank that had a seat is no longer there.
  bool gone(uint32_t rank) const;

  /// A rank's bytes for the call in a slot, 64 GiB of them at most.
  void put(uint32_t rank, uint32_t slot, uint64_t at, const std::vector<char>& bytes);
  std::vector<char> get(uint32_t rank, uint32_t slot, uint64_t at, uint64_t bytes) const;

 private:
  class Hold;
  void lock(short kind, uint64_t byte) const;
  State read() const;
  void write(const State& state);

  int file_ = -1;
  Address address_;
  mutable std::atomic<bool> held_ = false;  // by a process that does not go on
  mutable std::mutex mutex_;                // the kernel's lock is the object's, not the thread's
};

}  // namespace cann_sim
