#include "core/rows.h"

#include <set>

#include "core/fault.h"

namespace cann_sim {

std::vector<int64_t> load_indices(const View& index, int64_t limit) {
  std::vector<int64_t> values = load_integers(index);
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] < 0 || values[i] >= limit)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}[{}] = {} is outside 0..{}", index.label, i, values[i],
           limit - 1);
  return values;
}

void scatter_rows(const View& from, const View& index, const View& to) {
  scatter_rows(from, load_indices(index, to.dim(0)), index.label, to);
}

void scatter_rows(const View& from, const std::vector<int64_t>& rows, const std::string& label,
                  const View& to) {
  std::set<int64_t> seen;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!seen.insert(rows[i]).second)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: row {} comes twice; which write wins is not defined", label,
           rows[i]);
    store_bytes(to.row(rows[i]), load_bytes(from.row(static_cast<int64_t>(i))));
  }
}

}  // namespace cann_sim
