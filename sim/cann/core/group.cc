#include "core/group.h"

#include "core/handles.h"

namespace cann_sim {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Group::enqueue(Stream& stream, uint32_t rank, CollectiveCall call, CollectiveBody body) {
  uint64_t index = 0;
  std::shared_ptr<MeetingTime> time;
  {
    const std::lock_guard lock(mutex_);
    index = next_[rank]++;
    time = time_of(index);
  }
  Runtime& runtime = Runtime::get();
  runtime.count("collective");
  runtime.count("collective:" + call.name);
  runtime.count("collective:bytes", call.cost.hccs_bytes);
  const std::shared_ptr<Group> self = shared_from_this();
  auto kept = std::make_shared<const CollectiveCall>(std::move(call));
  runtime.conductor().enqueue(stream,
                              {.name = kept->name,
                               .run =
                                   [self, index, body, kept] {
                                     self->run(index, body);
                                     if (kept->afterwards) kept->afterwards();
                                   },
                               .ready = [self, index, rank, kept] { return self->ready(index, rank, *kept); },
                               .stall = kept->stall,
                               .timing = {.kind = "collective", .cost = kept->cost, .meeting = time}});
}

std::shared_ptr<MeetingTime> Group::time_of(uint64_t index) {
  auto& [time, asked] = times_[index];
  if (!time) time = std::make_shared<MeetingTime>();
  const auto kept = time;
  if (++asked == ranks_) times_.erase(index);
  return kept;
}

// Its stream has reached the call: the rank has come. Under the conductor's lock.
bool Group::ready(uint64_t index, uint32_t rank, const CollectiveCall& call) {
  const std::lock_guard lock(mutex_);
  Meeting& meeting = meetings_[index];
  if (meeting.calls.empty()) {
    meeting.calls.resize(ranks_);
    meeting.first = Clock::now();
  }
  if (!meeting.calls[rank]) {
    meeting.calls[rank] = call;
    ++meeting.arrived;
  }
  const bool late = limit_.count() > 0 && Clock::now() - meeting.first >= limit_;
  return failure_ || meeting.done || meeting.arrived == ranks_ || late;
}

void Group::run(uint64_t index, const CollectiveBody& body) {
  const std::lock_guard lock(mutex_);
  if (failure_) throw Fault(*failure_);
  Meeting& meeting = meetings_[index];
  if (meeting.done) {
    if (--meeting.arrived == 0) meetings_.erase(index);
    return;
  }
  try {
    compare(meeting);
    std::vector<CollectiveCall> calls;
    for (const auto& call : meeting.calls) calls.push_back(*call);
    body(calls);
  } catch (const Fault& fault) {
    failure_ = fault;
    throw;
  }
  meeting.done = true;
  if (--meeting.arrived == 0) meetings_.erase(index);
}

void Group::compare(const Meeting& meeting) const {
  std::string missing;
  const CollectiveCall* first = nullptr;
  uint32_t first_rank = 0;
  for (uint32_t rank = 0; rank < ranks_; ++rank) {
    if (!meeting.calls[rank]) {
      missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    } else if (!first) {
      first = &*meeting.calls[rank];
      first_rank = rank;
    }
  }
  if (!missing.empty())
    fail(ACL_ERROR_RT_AICORE_EXCEPTION,
         "EI0002: {}: notify wait time-out after {} s; ranks that never came: {} of {}", first->name,
         limit_.count(), missing, ranks_);
  for (uint32_t rank = 0; rank < ranks_; ++rank) {
    const CollectiveCall& call = *meeting.calls[rank];
    if (call.name != first->name || call.agreed != first->agreed)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION,
           "EI0002: collectives disagree: rank {} is in {} ({}), rank {} in {} ({})", first_rank, first->name,
           first->agreed, rank, call.name, call.agreed);
  }
}

std::optional<Fault> Group::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

Communicator& communicator_of(HcclComm handle, const char* call) {
  if (!handle) fail(HCCL_E_PTR, "{}: comm is null", call);
  if (!Runtime::get().alive(handle, kCommunicator)) fail(HCCL_E_PARA, "{}: comm is not alive", call);
  return *static_cast<Communicator*>(handle);
}

HcclResult guarded_hccl(const std::function<void()>& body) {
  const int code = guarded(body);
  return code < 100 ? static_cast<HcclResult>(code) : HCCL_E_RUNTIME;
}

const char* name_of(HcclDataType dtype) {
  switch (dtype) {
    case HCCL_DATA_TYPE_INT8:
      return "INT8";
    case HCCL_DATA_TYPE_INT32:
      return "INT32";
    case HCCL_DATA_TYPE_INT64:
      return "INT64";
    case HCCL_DATA_TYPE_FP16:
      return "FP16";
    case HCCL_DATA_TYPE_FP32:
      return "FP32";
    case HCCL_DATA_TYPE_UINT8:
      return "UINT8";
    case HCCL_DATA_TYPE_BFP16:
      return "BFP16";
    default:
      return "another type";
  }
}

aclDataType acl_type(HcclDataType dtype, const char* call) {
  switch (dtype) {
    case HCCL_DATA_TYPE_INT8:
      return ACL_INT8;
    case HCCL_DATA_TYPE_INT32:
      return ACL_INT32;
    case HCCL_DATA_TYPE_INT64:
      return ACL_INT64;
    case HCCL_DATA_TYPE_FP16:
      return ACL_FLOAT16;
    case HCCL_DATA_TYPE_FP32:
      return ACL_FLOAT;
    case HCCL_DATA_TYPE_UINT8:
      return ACL_UINT8;
    case HCCL_DATA_TYPE_BFP16:
      return ACL_BF16;
    default:
      fail(HCCL_E_NOT_SUPPORT,
           "{}: data type {} is not in the simulator (27 is aclDataType's BF16; HCCL's is 11)", call,
           static_cast<int>(dtype));
  }
}

}  // namespace cann_sim
