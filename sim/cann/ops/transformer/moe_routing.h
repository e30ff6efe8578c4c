#pragma once

#include <cstdint>
#include <vector>

#include "core/call.h"

namespace cann_sim {

/// Rows of x for experts [begin, end) sorted by expert (pairs of one expert in token order): writes
/// expandedX, the place of each token-order pair in that order, -1 for pairs of other experts, and returns
/// the pairs of each expert. With `sources`, expandedRowIdx is the other way round: the token-order pair of
/// each place. Throws Fault for an id outside 0..experts - 1.
std::vector<int64_t> expand_by_expert(const View& x, const View& expert_ids, int64_t experts,
                                      const View& expanded_x, const View& expanded_row_idx, int64_t begin,
                                      int64_t end, bool sources = false);

/// What both versions of the operator ask of their shapes: x [rows, H], ids [rows, k], expandedX [rows * k,
/// H], expandedRowIdx [rows * k].
void check_expansion(Call& call, const View& x, const View& ids, const View& expanded_x, const View& row_idx);

}  // namespace cann_sim
