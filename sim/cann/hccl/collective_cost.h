#pragma once

#include "core/group.h"

namespace cann_sim {

/// What one rank's call of a collective moves, whatever algorithm the cards use: every byte goes straight to
/// whoever wants it; sums are scattered and gathered again. `send` and `recv`: elements of its buffers.
Cost cost_of(const CollectiveCall& call, uint32_t rank, uint32_t ranks, uint64_t send, uint64_t recv);

}  // namespace cann_sim
