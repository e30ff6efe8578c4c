#include "core/join.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>

#include "core/process_group.h"
#include "core/thread_group.h"

namespace cann_sim {
namespace {

using Clock = std::chrono::steady_clock;
using Seat = MeetingPoint::Seat;
using State = MeetingPoint::State;

constexpr std::chrono::milliseconds kPoll(1);

void take_seat(State& state, const Joining& joining) {
  const auto& [ranks, rank, device, connect_limit, exec_limit] = joining;
  if (state.complete) fail(HCCL_E_PARA, "HcclCommInitRootInfo: this rootInfo is used up");
  if (state.ranks == 0) state.ranks = ranks;
  if (state.ranks != ranks)
    fail(HCCL_E_PARA, "HcclCommInitRootInfo: rank {} says {} ranks, another said {}", rank, ranks,
         state.ranks);
  for (uint32_t other = 0; other < ranks; ++other) {
    const Seat& its = state.seats[other];
    if (its.pid != 0 && (other == rank || its.device == device))
      fail(HCCL_E_PARA, "HcclCommInitRootInfo: rank {} on device {} came already (now rank {} on device {})",
           other, its.device, rank, device);
  }
  state.seats[rank].pid = getpid();
  state.seats[rank].device = device;
  state.complete =
      std::all_of(state.seats, state.seats + ranks, [](const Seat& seat) { return seat.pid != 0; });
}

// Why a rank gives up.
std::optional<Fault> trouble(const State& state, const MeetingPoint& point, const Joining& joining,
                             Clock::time_point begin) {
  uint32_t came = 0;
  for (uint32_t rank = 0; rank < joining.ranks; ++rank) {
    if (state.seats[rank].pid == 0) continue;
    ++came;
    if (rank != joining.rank && point.gone(rank))
      return Fault{HCCL_E_TIMEOUT,
                   fmt::format("EI0006: HcclCommInitRootInfo: the process of rank {} of {} has ended", rank,
                               joining.ranks)};
  }
  if (Clock::now() - begin < joining.connect_limit) return std::nullopt;
  return Fault{HCCL_E_TIMEOUT, fmt::format("EI0006: HcclCommInitRootInfo: {} of {} ranks came within {} s",
                                           came, joining.ranks, joining.connect_limit.count())};
}

// One for all ranks of this process.
std::shared_ptr<Group> thread_group(uint64_t id, const Joining& joining) {
  static auto* const mutex = new std::mutex;
  static auto* const groups = new std::map<uint64_t, std::weak_ptr<ThreadGroup>>;
  const std::lock_guard lock(*mutex);
  std::erase_if(*groups, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<ThreadGroup> group = (*groups)[id].lock();
  if (!group) group = std::make_shared<ThreadGroup>(joining.ranks, joining.exec_limit);
  (*groups)[id] = group;
  return group;
}

}  // namespace

std::shared_ptr<Group> join_group(const MeetingPoint::Address& address, const Joining& joining) {
  if (joining.ranks > MeetingPoint::kMostRanks)
    fail(HCCL_E_NOT_SUPPORT, "HcclCommInitRootInfo: the simulator knows groups of up to {} ranks only, not {}",
         MeetingPoint::kMostRanks, joining.ranks);
  auto point = std::make_unique<MeetingPoint>(address);
  const Clock::time_point begin = Clock::now();
  point->change([&](State& state) {
    take_seat(state, joining);
    point->sit(joining.rank);
  });
  State state;
  for (;;) {
    std::optional<Fault> given_up;
    point->change([&](State& now) {
      if (!now.complete) given_up = trouble(now, *point, joining, begin);
      if (given_up) {  // it may come again, and must not count while it is gone
        now.seats[joining.rank] = {};
        point->stand_up(joining.rank);
      }
      state = now;
    });
    if (given_up) throw Fault(*given_up);
    if (state.complete) break;
    std::this_thread::sleep_for(kPoll);
  }
  const bool alone = std::all_of(state.seats, state.seats + joining.ranks,
                                 [](const Seat& seat) { return seat.pid == getpid(); });
  if (alone) return thread_group(address.id, joining);
  return std::make_shared<ProcessGroup>(std::move(point), joining.ranks, joining.rank, joining.exec_limit);
}

}  // namespace cann_sim
