#pragma once

#include <string>

namespace cann_sim {

/// Whether this release has a C function of this name that tells success by a code or a handle.
bool is_entry_point(const std::string& name);

}  // namespace cann_sim
