#pragma once

#include "core/view.h"

namespace cann_sim {

/// The values of an index. Throws Fault, as one found while running, where one is outside 0..limit - 1.
std::vector<int64_t> load_indices(const View& index, int64_t limit);

/// Row index[i] of `to` becomes row i of `from`. A row that comes twice is a fault: which write wins is not
/// defined.
void scatter_rows(const View& from, const View& index, const View& to);
/// The same with rows that are known to be there; `label` names them in messages.
void scatter_rows(const View& from, const std::vector<int64_t>& rows, const std::string& label,
                  const View& to);

}  // namespace cann_sim
