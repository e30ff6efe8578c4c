#include "core/process_group.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/handles.h"

namespace cann_sim {
namespace {

using State = MeetingPoint::State;

constexpr uint64_t kElements = 4096;  // in a slot: the call as others need it, then what is sent

uint32_t slot_of(uint64_t index) {
  return static_cast<uint32_t>(index % MeetingPoint::kSlots);
}

int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::optional<Fault> fault_in(const State& state) {
  if (state.fault == 0) return std::nullopt;
  return Fault{state.fault, state.text};
}

// A call as other processes need it, in kElements bytes: lists, each behind its length.
std::vector<char> pack(const CollectiveCall& call) {
  std::vector<char> bytes;
  const auto append = [&](const void* data, size_t size) {
    std::copy_n(static_cast<const char*>(data), size, std::back_inserter(bytes));
  };
  const auto put = [&](const auto& list) {
    const uint64_t size = list.size();
    append(&size, sizeof size);
    append(list.data(), size * sizeof(list[0]));
  };
  put(call.name);
  put(call.agreed);
  put(std::vector<uint64_t>{static_cast<uint64_t>(call.dtype), static_cast<uint64_t>(call.op), call.root,
                            call.count});
  put(call.send_counts);
  put(call.send_displs);
  put(call.recv_counts);
  if (bytes.size() > kElements)
    fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: what its ranks tell each other takes {} bytes, {} at most",
         call.name, bytes.size(), kElements);
  bytes.resize(kElements);
  return bytes;
}

CollectiveCall unpack(const std::vector<char>& bytes) {
  const char* at = bytes.data();
  const auto take = [&](auto list) {
    uint64_t size = 0;
    std::memcpy(&size, at, sizeof size);
    list.resize(size);
    if (size > 0) std::memcpy(list.data(), at + sizeof size, size * sizeof(list[0]));
    at += sizeof size + size * sizeof(list[0]);
    return list;
  };
  CollectiveCall call;
  call.name = take(std::string());
  call.agreed = take(std::string());
  const auto numbers = take(std::vector<uint64_t>());
  call.dtype = static_cast<aclDataType>(numbers[0]);
  call.op = static_cast<HcclReduceOp>(numbers[1]);
  call.root = static_cast<uint32_t>(numbers[2]);
  call.count = numbers[3];
  call.send_counts = take(std::vector<uint64_t>());
  call.send_displs = take(std::vector<uint64_t>());
  call.recv_counts = take(std::vector<uint64_t>());
  return call;
}

class ProcessMeeting final : public Meeting {
 public:
  ProcessMeeting(const MeetingPoint& point, uint32_t slot, std::vector<CollectiveCall> of_ranks, uint32_t me)
      : Meeting(std::move(of_ranks), {me}), point_(point), slot_(slot) {}
  std::vector<char> sent(uint32_t rank, uint64_t offset, uint64_t count) const override {
    const auto size = static_cast<uint64_t>(size_of(calls[0].dtype));
    return point_.get(rank, slot_, kElements + offset * size, count * size);
  }

 private:
  const MeetingPoint& point_;
  const uint32_t slot_;
};

}  // namespace

ProcessGroup::~ProcessGroup() {
  try {
    point_->change([&](State& state) { state.seats[rank_].pid = 0; });  // it has not ended, but left
  } catch (const Fault&) {
    // Then the others take its process for ended.
  }
}

void ProcessGroup::enqueue(Stream& stream, uint32_t, CollectiveCall call, CollectiveBody body) {
  count_collective(call);
  const uint64_t index = next_++;
  const auto self = std::static_pointer_cast<ProcessGroup>(shared_from_this());
  const auto kept = std::make_shared<const CollectiveCall>(std::move(call));
  const auto mine = std::make_shared<MeetingTime>(), all = std::make_shared<MeetingTime>();
  Conductor& conductor = Runtime::get().conductor();
  conductor.enqueue(stream, {.name = kept->name,
                             .run = [self, index, kept, mine] { self->come(index, *kept, *mine); },
                             .ready = [self, index] { return self->has_room(index); },
                             .outside = true,
                             .stall = kept->stall,
                             .timing = {.meeting = mine}});
  conductor.enqueue(stream, {.name = kept->name,
                             .run =
                                 [self, index, kept, body, all] {
                                   self->end(index, *kept, body, *all);
                                   if (kept->afterwards) kept->afterwards();
                                 },
                             .ready = [self, index] { return self->can_end(index); },
                             .outside = true,
                             .timing = {.kind = "collective", .cost = kept->cost, .meeting = all}});
}

// Nobody reads any more what the slot holds; or there is a fault, which come() will meet.
bool ProcessGroup::has_room(uint64_t index) const try {
  if (index < MeetingPoint::kSlots) return true;
  const State state = point_->look();
  for (uint32_t rank = 0; rank < ranks_; ++rank)
    if (state.seats[rank].done[slot_of(index)] + MeetingPoint::kSlots <= index) return state.fault != 0;
  return true;
} catch (const Fault&) {
  return true;
}

void ProcessGroup::come(uint64_t index, const CollectiveCall& call, const MeetingTime& mine) {
  const uint32_t slot = slot_of(index);
  try {
    if (const auto fault = failure()) throw Fault(*fault);
    point_->put(rank_, slot, 0, pack(call));
    const auto size = static_cast<uint64_t>(size_of(call.dtype));
    for (const auto& [begin, count] : *call.read)
      point_->put(rank_, slot, kElements + begin * size,
                  load_bytes(buffer(call, rank_, true, begin, count)));
  } catch (const Fault& fault) {
    lose(fault);
  }
  point_->change([&](State& state) {
    bool first = true;
    for (uint32_t rank = 0; rank < ranks_; ++rank) first &= state.seats[rank].came[slot] != index + 1;
    if (first) state.first_ns[slot] = now_ns();
    MeetingPoint::Seat& seat = state.seats[rank_];
    seat.came[slot] = index + 1;
    seat.begin[slot] = mine.begin;
    seat.seconds[slot] = Runtime::get().conductor().time().card().seconds(call.cost);
  });
}

// Why the call can't be waited for any longer; nothing where all have come, or may still do so.
std::optional<Fault> ProcessGroup::trouble(const State& state, uint64_t index,
                                           const std::string& name) const {
  std::vector<uint32_t> missing;
  for (uint32_t rank = 0; rank < ranks_; ++rank) {
    if (state.seats[rank].came[slot_of(index)] == index + 1) continue;
    missing.push_back(rank);
    if (state.seats[rank].pid != 0 && point_->gone(rank) && point_->look().seats[rank].pid != 0)
      return Fault{ACL_ERROR_RT_AICORE_EXCEPTION,
                   fmt::format("EI0002: {}: the process of rank {} of {} ended before it came", name, rank,
                               ranks_)};
  }
  const std::chrono::nanoseconds waited(now_ns() - state.first_ns[slot_of(index)]);
  if (missing.empty() || limit_.count() == 0 || waited < limit_) return std::nullopt;
  return never_came(name, limit_.count(), missing, ranks_);
}

bool ProcessGroup::can_end(uint64_t index) const try {
  const State state = point_->look();
  bool all = true;
  for (uint32_t rank = 0; rank < ranks_; ++rank) all &= state.seats[rank].came[slot_of(index)] == index + 1;
  return all || state.fault != 0 || trouble(state, index, "").has_value();
} catch (const Fault&) {
  return true;  // end() will meet it
}

void ProcessGroup::end(uint64_t index, const CollectiveCall& call, const CollectiveBody& body,
                       MeetingTime& all) {
  try {
    const State state = point_->look();
    if (const auto fault = fault_in(state)) throw Fault(*fault);
    if (const auto fault = trouble(state, index, call.name)) throw Fault(*fault);
    check_unchanged(index, call);
    const ProcessMeeting meeting(*point_, slot_of(index), all_calls(index, call), rank_);
    compare(meeting.calls);
    body(meeting);
    for (uint32_t rank = 0; rank < ranks_; ++rank) {
      all.begin = std::max(all.begin, state.seats[rank].begin[slot_of(index)]);
      all.seconds = std::max(all.seconds, state.seats[rank].seconds[slot_of(index)]);
    }
  } catch (const Fault& fault) {
    lose(fault);
  }
  point_->change([&](State& state) { state.seats[rank_].done[slot_of(index)] = index + 1; });
}

std::vector<CollectiveCall> ProcessGroup::all_calls(uint64_t index, const CollectiveCall& mine) const {
  std::vector<CollectiveCall> calls;
  for (uint32_t rank = 0; rank < ranks_; ++rank)
    calls.push_back(rank == rank_ ? mine : unpack(point_->get(rank, slot_of(index), 0, kElements)));
  return calls;
}

// A card reads until the end: what was written to the buffer meanwhile may or may not have been sent.
void ProcessGroup::check_unchanged(uint64_t index, const CollectiveCall& call) const {
  const auto size = static_cast<uint64_t>(size_of(call.dtype));
  for (const auto& [begin, count] : *call.read)
    if (load_bytes(buffer(call, rank_, true, begin, count)) !=
        point_->get(rank_, slot_of(index), kElements + begin * size, count * size))
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: sendBuf of rank {} was written to before the end", call.name,
           rank_);
}

// The first fault is everybody's.
void ProcessGroup::lose(const Fault& fault) {
  Fault told = fault;
  if (told.code < 100) told.code = ACL_ERROR_RT_AICORE_EXCEPTION;  // one of HCCL's own, of a stream
  try {
    point_->change([&](State& state) {
      if (const auto earlier = fault_in(state)) {
        told = *earlier;
        return;
      }
      state.fault = told.code;
      fault.text.copy(state.text, sizeof state.text - 1);
    });
  } catch (const Fault&) {
    // Somebody who does not go on holds the point: the others find that out for themselves.
  }
  {
    const std::lock_guard lock(mutex_);
    if (!lost_) lost_ = told;
  }
  throw Fault(told);
}

std::optional<Fault> ProcessGroup::failure() const {
  {
    const std::lock_guard lock(mutex_);
    if (lost_) return lost_;
  }
  return fault_in(point_->look());
}

}  // namespace cann_sim
