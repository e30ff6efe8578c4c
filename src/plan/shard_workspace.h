#pragma once

#include <cstdint>
#include <optional>

#include "plan/activation.h"
#include "plan/shard_plan.h"

namespace longspan {

/// What decides the memory that sharded KV takes on a rank beside its pages.
struct ShardWorkspaceShape {
  int32_t cp = 1;
  int64_t max_rows = 0;                                     // new tokens of a step
  int64_t max_sequences = 0;                                // rows of a batch
  int32_t min_tokens_to_cut = 0;                            // CpPolicy's
  int32_t page_size = 1;                                    // tokens
  int32_t heads_q = 0, heads_kv = 0, dim_k = 0, dim_v = 0;  // of the rank's slice, Hk = Hv
  int64_t kv_bytes = 0;                                     // of an element of K or V
  int64_t query_bytes = kFloat;                             // of an element of a query
  int32_t merged_at_once =
      0;  // parts that a merge copies before it, with their sum; 0: none, it takes no memory
  std::optional<KvTransfer> transfer = {};  // empty: any, step by step
};

/// Rows of one cp rank in a step: its two blocks of each sequence that is cut, and whole ones.
int64_t most_local_rows(const ShardWorkspaceShape& shape);

/// Pages of each owner that travel at a time: in all as many rows as a step has, so that earlier keys take no
/// more memory than the step itself, however many they are.
int32_t shard_round_pages(const ShardWorkspaceShape& shape);

/// Pages of the scratch pool, page 0 included: this step's rows, and those of other owners' pages.
int64_t shard_scratch_pages(const ShardWorkspaceShape& shape);

/// Bytes of a step's arena at most: rows, queries and partial results that travel or wait to be merged.
int64_t shard_arena_bytes(const ShardWorkspaceShape& shape);

/// What one collective of a step brings from a rank and to it at most, in bytes.
struct ShardMessages {
  int64_t sent = 0, received = 0;
};
ShardMessages largest_shard_messages(const ShardWorkspaceShape& shape);

}  // namespace longspan
