#pragma once

#include <vector>

namespace longspan::cli {

struct Spread {
  double least = 0, median = 0, most = 0;
};

/// The median of an even number of samples is the mean of the middle two. `samples` must not be empty.
Spread spread_of(std::vector<double> samples);

}  // namespace longspan::cli
