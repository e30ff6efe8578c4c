#pragma once

#include <cstdint>
#include <functional>

#include "comm/communicator.h"
#include "device/ops.h"
#include "plan/transfer_cost.h"

namespace longspan {

/// The largest message that measure_transfer sends or gets.
inline constexpr int64_t kMostProbeBytes = 16 << 20;

/// Pages of keys that it attends to at most.
int32_t probe_pages(const KvShape& scratch);

/// What choose_transfer needs to know of a cp group: all its ranks attend at the same time, then all send to
/// the next one, each for some tens of milliseconds. `scratch`: a pool of the rank's slice that holds nothing
/// worth keeping. `seconds`: a clock. Takes twice kMostProbeBytes of the arena. Collective; each rank gets
/// what rank 0 of the group measured.
TransferFigures measure_transfer(OpContext& ctx, Ops& ops, KvPool& scratch, int32_t heads_q,
                                 Communicator& comm, bool overlaps, const std::function<double()>& seconds);

}  // namespace longspan
