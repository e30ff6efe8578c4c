#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "abi/hccl.h"
#include "core/fault.h"
#include "core/runtime.h"

namespace cann_sim {

/// One rank's call of a collective.
struct CollectiveCall {
  std::string name;
  /// What must be the same on every rank, as text: "FP32, op 0, count 8".
  std::string agreed = {};
  aclDataType dtype = ACL_DT_UNDEFINED;
  HcclReduceOp op = HCCL_REDUCE_SUM;
  uint32_t root = 0;
  void *send = nullptr, *recv = nullptr;
  bool in_place = false;                                     // send may be recv
  uint64_t count = 0;                                        // elements
  std::vector<uint64_t> send_counts = {}, send_displs = {};  // elements, by rank
  std::vector<uint64_t> recv_counts = {}, recv_displs = {};
  Cost cost = {};                         // of this rank
  std::chrono::milliseconds stall{0};     // of this rank
  std::function<void()> afterwards = {};  // on this rank, null: nothing
};

/// What is to be done once every rank has come: all ranks' calls, in rank order.
using CollectiveBody = std::function<void(const std::vector<CollectiveCall>&)>;

/// The ranks that made a communicator of one root info. Threads of one process.
class Group : public std::enable_shared_from_this<Group> {
 public:
  Group(uint32_t ranks, std::chrono::seconds limit) : ranks_(ranks), limit_(limit) {}
  uint32_t size() const { return ranks_; }

  /// Enqueues rank's next collective on its stream. The ranks' n-th calls belong together; they are compared
  /// when all have come. One that never comes fails the others when the time limit has passed.
  void enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body);
  std::optional<Fault> failure() const;

 private:
  struct Meeting {
    std::vector<std::optional<CollectiveCall>> calls;
    uint32_t arrived = 0;
    std::chrono::steady_clock::time_point first;
    bool done = false;
  };
  bool ready(uint64_t index, uint32_t rank, const CollectiveCall& call);
  void run(uint64_t index, const CollectiveBody& body);
  void compare(const Meeting& meeting) const;

  const uint32_t ranks_;
  const std::chrono::seconds limit_;  // 0: none
  mutable std::mutex mutex_;
  std::map<uint32_t, uint64_t> next_;  // index of each rank's next call
  /// Where the n-th calls of this process' ranks meet, by the model of time, and how many have asked.
  std::map<uint64_t, std::pair<std::shared_ptr<MeetingTime>, uint32_t>> times_;
  std::shared_ptr<MeetingTime> time_of(uint64_t index);
  std::map<uint64_t, Meeting> meetings_;
  std::optional<Fault> failure_;
};

/// A rank's communicator.
struct Communicator {
  std::shared_ptr<Group> group;
  uint32_t rank = 0;
  int device = -1;
};

constexpr const char* kCommunicator = "HcclComm";

/// Throws Fault: HCCL_E_PTR for null, HCCL_E_PARA for what is no live communicator.
Communicator& communicator_of(HcclComm handle, const char* call);

/// guarded(), with codes that are none of HCCL's given as HCCL_E_RUNTIME.
HcclResult guarded_hccl(const std::function<void()>& body);

const char* name_of(HcclDataType dtype);
/// Throws Fault(HCCL_E_NOT_SUPPORT) for a type that the simulator does not know.
aclDataType acl_type(HcclDataType dtype, const char* call);

}  // namespace cann_sim
