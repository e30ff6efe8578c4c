#pragma once

#include <chrono>
#include <memory>

#include "core/group.h"
#include "core/meeting_point.h"

namespace cann_sim {

/// A rank of a new group: its size, the rank's number and device, and how long it waits for the others to
/// join and, later, to come to a collective (0 there: for ever).
struct Joining {
  uint32_t ranks = 1, rank = 0;
  int device = 0;
  std::chrono::seconds connect_limit{120}, exec_limit{1836};
};

/// Waits until every rank has joined. Throws Fault: HCCL_E_PARA where ranks contradict each other,
/// HCCL_E_TIMEOUT where not all join; who failed has not joined.
std::shared_ptr<Group> join_group(const MeetingPoint::Address& address, const Joining& joining);

}  // namespace cann_sim
