#pragma once

#include "core/group.h"

namespace cann_sim {

/// `size` counts or displacements from host memory. Throws Fault where they lie elsewhere.
std::vector<uint64_t> host_counts(const void* array, uint32_t size, const char* call, const char* name);
/// The element behind the last one that these parts of a buffer reach; parts of none count for nothing.
uint64_t end_of(const std::vector<uint64_t>& counts, const std::vector<uint64_t>& displs);

/// Starts a call on comm: checks stream, device, and buffers, then enqueues. `send_elems` and `recv_elems`
/// are what the buffers must hold; they may not overlap, except one buffer for both where the call says so
/// (send = recv, as many elements).
void start_collective(HcclComm comm, aclrtStream stream, HcclDataType dtype, CollectiveCall call,
                      uint64_t send_elems, uint64_t recv_elems, CollectiveBody body);

}  // namespace cann_sim
