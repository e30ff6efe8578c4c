#pragma once

#include "core/view.h"
#include "core/group.h"

namespace cann_sim {

/// Starts a call on comm: checks stream, device, and buffers, then enqueues. `send_elems` and `recv_elems`
/// are what the buffers must hold.
void start_collective(HcclComm comm, aclrtStream stream, HcclDataType dtype, CollectiveCall call,
                      uint64_t send_elems, uint64_t recv_elems, CollectiveBody body);

/// `count` elements at element `offset` of a rank's buffer.
View buffer(const CollectiveCall& call, uint32_t rank, bool send, uint64_t offset, uint64_t count);

}  // namespace cann_sim
