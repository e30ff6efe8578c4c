#include "plan/shard_workspace.h"

#include <algorithm>

#include "plan/activation.h"

namespace longspan {
namespace {

int64_t pages_of(int64_t rows, int32_t page_size) {
  return (rows + page_size - 1) / page_size;
}

/// Rows of sequences that are placed whole: each is shorter than what is cut.
int64_t whole_rows(const ShardWorkspaceShape& s) {
  return std::min(s.max_rows, s.max_sequences * std::max(s.min_tokens_to_cut, 2 * s.cp));
}

int64_t key_bytes(const ShardWorkspaceShape& s) {  // [K | V] of a row
  return int64_t{s.heads_kv} * (s.dim_k + s.dim_v) * s.kv_bytes;
}
int64_t query_bytes(const ShardWorkspaceShape& s) {
  return int64_t{s.heads_q} * s.dim_k * s.query_bytes;
}
int64_t partial_bytes(const ShardWorkspaceShape& s) {
  return int64_t{s.heads_q} * (s.dim_v + 1) * kFloat;
}

}  // namespace

int64_t most_local_rows(const ShardWorkspaceShape& s) {
  return std::min(s.max_rows, s.max_rows / s.cp + 2 * s.max_sequences + whole_rows(s));
}

int32_t shard_round_pages(const ShardWorkspaceShape& shape) {
  return static_cast<int32_t>(std::max<int64_t>(1, pages_of(shape.max_rows, shape.page_size) / shape.cp));
}

int64_t shard_scratch_pages(const ShardWorkspaceShape& s) {
  const int64_t chunk = pages_of(s.max_rows, s.page_size) + s.max_sequences;  // each begins on a page
  const int64_t owners = s.transfer == KvTransfer::kGatherQ ? 0
                         : s.transfer == KvTransfer::kRing  ? 1
                                                            : s.cp - 1;
  return 1 + chunk + owners * shard_round_pages(s);
}

int64_t shard_arena_bytes(const ShardWorkspaceShape& s) {
  const int64_t kv_cols = int64_t{s.heads_kv} * (s.dim_k + s.dim_v);
  const int64_t partial = partial_bytes(s);
  const int64_t local = most_local_rows(s), whole = whole_rows(s);

  // [K | V] of this step: what a rank sends, what comes from all, and the rows of it that are here.
  const bool copies = s.merged_at_once > 0;
  const int64_t chunk = (local + (copies ? 2 : 1) * s.max_rows) * key_bytes(s);
  // Queries: what a rank sends, what comes from all, and what their own keys make of them.
  const int64_t made = copies ? int64_t{s.heads_q} * (s.dim_v * s.query_bytes + kFloat) : 0;
  const auto queries = [&](int64_t mine, int64_t all) {
    return mine * query_bytes(s) + all * (query_bytes(s) + made + partial);
  };
  // Earlier keys: a rank's own as read and as sent, and what comes; partial results of every owner.
  const int64_t round_rows = int64_t{shard_round_pages(s)} * s.page_size;
  const int64_t keys = round_rows * kv_cols * (kFloat + s.kv_bytes * (1 + s.cp));
  // Beside them what is merged, and the sums: a first, and one more for each so many parts but one.
  const int64_t sums = copies ? (s.cp + s.merged_at_once - 2) / (s.merged_at_once - 1) : 0;
  const int64_t merged = copies ? local * (1 + s.cp + sums) * partial : 0;
  const int64_t with_keys =
      (local * (1 + s.cp) + whole * s.cp) * partial + std::max(keys + merged, queries(whole, whole));
  const int64_t with_queries = local * (1 + s.cp) * partial + std::max(queries(local, s.max_rows), merged);
  const int64_t attend = s.transfer == KvTransfer::kGatherQ ? with_queries
                         : s.transfer                       ? with_keys
                                                            : std::max(with_keys, with_queries);
  return std::max(chunk, attend);
}

ShardMessages largest_shard_messages(const ShardWorkspaceShape& s) {
  const int64_t local = most_local_rows(s), whole = whole_rows(s);
  ShardMessages most;
  const auto add = [&](int64_t sent, int64_t received) {
    most.sent = std::max(most.sent, sent);
    most.received = std::max(most.received, received);
  };
  const auto add_queries = [&](int64_t mine, int64_t all) {
    add(mine * query_bytes(s), all * query_bytes(s));
    add(all * partial_bytes(s), mine * s.cp * partial_bytes(s));
  };
  add(local * key_bytes(s), s.max_rows * key_bytes(s));
  add_queries(whole, whole);
  if (s.transfer != KvTransfer::kGatherQ) {
    const int64_t round = int64_t{shard_round_pages(s)} * s.page_size * key_bytes(s);
    add(round, s.transfer == KvTransfer::kRing ? round : s.cp * round);
  }
  if (!s.transfer || s.transfer == KvTransfer::kGatherQ) add_queries(local, s.max_rows);
  return most;
}

}  // namespace longspan
