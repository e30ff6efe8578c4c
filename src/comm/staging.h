#pragma once

#include <algorithm>
#include <cstdint>

namespace longspan {

/// A sum of up to so many bytes from every rank is taken on every rank, which spares the second round of
/// messages.
inline constexpr int64_t kSmallSum = 64 << 10;
/// Larger sums are taken in rounds, in which a rank sends and receives up to so many bytes.
inline constexpr int64_t kSumRound = 8 << 20;

/// Bytes that a communicator between processes keeps for messages. What travels is copied; the copies' memory
/// stays as large as the largest collective has made it.
struct Staging {
  int64_t outgoing = 0, incoming = 0;

  int64_t bytes() const { return outgoing + incoming; }
  Staging& grow(Staging other) {
    outgoing = std::max(outgoing, other.outgoing);
    incoming = std::max(incoming, other.incoming);
    return *this;
  }
};

/// Of a gather or an all_to_all_v it is what a rank sends and what it gets. Of sums over `ranks` ranks:

/// all_reduce of so many floats, at most.
Staging all_reduce_staging(int64_t floats, int32_t ranks);
/// reduce_scatter_v in which no range has more floats.
Staging reduce_scatter_staging(int64_t longest_range, int32_t ranks);

}  // namespace longspan
