#pragma once

#include <string>
#include <vector>

#include "device/device.h"

namespace longspan {

/// How one op of a device compares with the reference on a small problem.
struct OpCheck {
  std::string op;
  double error = 0;     // largest distance: relative to the reference, absolute where that is below 1
  double bound = 0;     // what rounding in the device's dtype explains
  std::string failure;  // why it could not be run, or ""

  bool ok() const { return failure.empty() && error <= bound; }
};

/// Runs every op once on `device`, which computes in bf16, and once on the reference.
std::vector<OpCheck> check_ops(Device& device);

}  // namespace longspan
