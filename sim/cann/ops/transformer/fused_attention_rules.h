#pragma once

#include "core/call.h"
#include "ops/transformer/fused_attention.h"

namespace cann_sim {

/// How queries, keys that are not in pages, and results lie. All but TND are padded to a common length S.
enum class AttentionLayout { kBsh, kBsnd, kBnsd, kTnd };

struct AttentionOperands {
  AttentionLayout layout;
  const aclTensor* query;
  const aclTensorList *key, *value;
  const aclTensor* block_table;
  const aclIntArray *query_lengths, *kv_lengths;
  int64_t heads;
};

struct Sparsity {
  int64_t mode, before, after;  // sparseMode, preTokens, nextTokens
};

/// Queries, keys, values, pages and lengths into `a`, whose kv_heads and block_size are set.
void take_operands(Call& call, FusedAttention& a, const AttentionOperands& o);

/// Masks and bands into `a`, whose operands are there. `mask` may be null.
void take_mask(Call& call, FusedAttention& a, const aclTensor* mask, const Sparsity& sparsity);

/// `view` with its heads as the last dim but one, whatever the layout: [T, heads, dim] or [B, S, heads, dim].
View with_heads(const Call& call, const View& view, AttentionLayout layout, int64_t heads, const char* says);

/// What a kernel does not see of requests whose queries are one row each and not in TND: the sparse mode, the
/// queries' lengths.
inline bool single_row(const FusedAttention& a) {
  return a.padded() && a.query.dim(1) == 1;
}

}  // namespace cann_sim
