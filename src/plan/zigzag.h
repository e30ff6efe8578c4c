#pragma once

#include <cstdint>
#include <span>

namespace longspan {

/// Block arithmetic of the zigzag cut: n = 2*cp blocks of a sequence's new tokens, block b belongs to rank b
/// if b < cp ("prev") and to rank n-1-b otherwise ("next").

/// Rank that owns block `block`, 0 <= block < 2*cp.
inline int32_t zigzag_owner(int32_t block, int32_t cp) {
  return block < cp ? block : 2 * cp - 1 - block;
}

/// Fills blocks [n] with the sizes of an even cut of `tokens`: the first tokens % n blocks get one more.
void cut_evenly(int32_t tokens, std::span<int32_t> blocks);

/// Keys seen in all by `len` consecutive causal rows, the first at position `first_position`: its row sees
/// first_position + 1 keys, each further one a key more.
inline int64_t causal_area(int64_t first_position, int64_t len) {
  return len * first_position + len * (len + 1) / 2;
}

}  // namespace longspan
