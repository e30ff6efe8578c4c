#pragma once

#include <cstdint>

namespace longspan {

/// q_len consecutive local query rows of one sequence, and the keys they see through one block-table row.
/// causal (bottom-right): query row i sees keys [0, kv_len - q_len + i]; else every row sees [0, kv_len).
struct Segment {
  int32_t q_begin = 0;          // first local row
  int32_t q_len = 0;            // rows, >= 1
  int32_t block_table_row = 0;  // index of the sequence in the batch
  int32_t kv_len = 0;           // tokens, cached prefix included, >= q_len when causal
  bool causal = true;

  bool operator==(const Segment&) const = default;
};

}  // namespace longspan
