#pragma once

namespace longspan {

/// What the hardware does at its best, measured; 0: unknown.
struct HardwareLimits {
  double flops_per_s = 0;  ///< multiplications and additions of a big multiply in the fastest arithmetic that the weights use
  double bytes_per_s = 0;  ///< reading memory that no cache holds
};

}  // namespace longspan
