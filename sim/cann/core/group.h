#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "abi/hccl.h"
#include "core/cost.h"
#include "core/fault.h"
#include "core/runtime.h"
#include "core/view.h"

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
  /// Parts of the send buffer that are read: the first element, how many. Not given: all of it.
  using Parts = std::vector<std::pair<uint64_t, uint64_t>>;
  std::optional<Parts> read = {};
  Cost cost = {};                         // of this rank
  std::chrono::milliseconds stall{0};     // of this rank
  std::function<void()> afterwards = {};  // on this rank, null: nothing
};

/// `count` elements at element `offset` of a rank's buffer.
View buffer(const CollectiveCall& call, uint32_t rank, bool send, uint64_t offset, uint64_t count);

/// A collective to which every rank has come.
class Meeting {
 public:
  Meeting(std::vector<CollectiveCall> of_ranks, std::vector<uint32_t> whose)
      : calls(std::move(of_ranks)), here(std::move(whose)) {}
  virtual ~Meeting() = default;

  /// Bytes of `count` elements at element `offset` of a rank's send buffer, wherever it lies.
  virtual std::vector<char> sent(uint32_t rank, uint64_t offset, uint64_t count) const = 0;

  const std::vector<CollectiveCall> calls;  // in rank order; only of those here with addresses and recv_displs
  const std::vector<uint32_t> here;         // ranks that get their results now
};

/// Stores what the ranks that are here receive; with one buffer for both, once all of it was read.
using CollectiveBody = std::function<void(const Meeting&)>;

/// A communicator's ranks, as one or several of them see it.
class Group : public std::enable_shared_from_this<Group> {
 public:
  virtual ~Group() = default;
  virtual uint32_t size() const = 0;
  /// Enqueues rank's next collective on its stream. The ranks' n-th calls belong together; they are compared
  /// when all have come. One that never comes fails the others when the time limit has passed.
  virtual void enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body) = 0;
  virtual std::optional<Fault> failure() const = 0;
};

/// Throws Fault where calls disagree.
void compare(const std::vector<CollectiveCall>& calls);
/// What is wrong where ranks have not come in time.
Fault never_came(const std::string& collective, int64_t seconds, const std::vector<uint32_t>& missing,
                 uint32_t ranks);
/// For tests' counts.
void count_collective(const CollectiveCall& call);

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
