#include "model/message_memory.h"

#include <algorithm>

#include "comm/staging.h"
#include "model/layout_model.h"
#include "model/shard_shape.h"
#include "model/transfer_probe.h"
#include "plan/activation.h"
#include "plan/expert_exchange.h"
#include "plan/rank_slice.h"

namespace longspan {
namespace {

constexpr int64_t kInt = sizeof(int32_t);

/// Rows of a step at most.
struct StepRows {
  int64_t all = 0, local = 0;  // of all cp ranks, of one
  int64_t sequences = 0;
};

Staging kv_staging(const EngineOptions& options, const ShardWorkspaceShape& shape, const StepRows& rows) {
  if (shape.cp == 1) return {};
  if (!options.shard_kv) {
    const int64_t row_bytes = int64_t{shape.heads_kv} * (shape.dim_k + shape.dim_v) * shape.kv_bytes;
    return {.outgoing = rows.local * row_bytes, .incoming = rows.all * row_bytes};
  }
  const ShardMessages messages = largest_shard_messages(shape);
  Staging staging{.outgoing = messages.sent, .incoming = messages.received};
  if (!shape.transfer) staging.grow({.outgoing = kMostProbeBytes, .incoming = kMostProbeBytes});
  return staging;
}

Staging attn_tp_staging(const ModelConfig& config, const Layout& layout, const StepRows& rows) {
  if (layout.attn_tp == 1) return {};
  const int64_t shard = even_part(config.vocab_size, layout.attn_tp, 0).count;
  return all_reduce_staging(rows.local * config.hidden_size, layout.attn_tp)
      .grow({.outgoing = rows.sequences * shard * kFloat,
             .incoming = rows.sequences * config.vocab_size * kFloat});
}

Staging moe_staging(const ModelConfig& config, const Layout& layout, const StepRows& rows) {
  const int32_t ranks = layout.ep * layout.moe_tp;
  if (config.num_experts == 0 || ranks == 1) return {};
  const int64_t row_bytes = config.hidden_size * kFloat;
  const int32_t sections = layout.cp / layout.moe_dp;
  const int64_t group = std::min(rows.all, rows.local * sections);
  switch (choose_expert_exchange(layout_model(config), layout)) {
    case ExpertExchange::kReduce:
      return all_reduce_staging(rows.local * config.hidden_size, ranks);
    case ExpertExchange::kGather:
      return reduce_scatter_staging(rows.local * config.hidden_size, ranks)
          .grow({.outgoing = rows.local * row_bytes, .incoming = group * row_bytes});
    case ExpertExchange::kAllToAll:
      break;
  }
  // Each of a row's choices on another ep rank: out to a copy of each section, back to all copies of each.
  const int32_t choices = config.num_experts_per_tok + (config.shared_expert_intermediate_size > 0);
  const int64_t targets = int64_t{std::min(layout.ep, choices)} * layout.moe_tp;
  return {.outgoing =
              std::max(rows.local * std::min<int64_t>(sections, targets), group * layout.attn_tp) * row_bytes,
          .incoming = std::max(group, rows.local * targets) * row_bytes};
}

/// Steps go from rank 0 to the others, logits and scores to it: it holds one way what they hold the other.
int64_t order_bytes(const EngineOptions& options, const ModelConfig& config, const StepRows& rows) {
  const int64_t context = options.context_length ? options.context_length : config.context_length;
  const int64_t pages = (context + options.page_size - 1) / options.page_size;
  constexpr int64_t kHeadInts = 6, kRowInts = 3, kTokenInts = 2;
  const int64_t row_ints = kRowInts + (options.shard_kv ? 2 : 1) * pages;
  const int64_t order = (kHeadInts + rows.sequences * row_ints + rows.all * kTokenInts) * kInt;
  return order + (rows.sequences * config.vocab_size + rows.all) * kFloat;
}

}  // namespace

int64_t message_bytes(const EngineOptions& options, const ModelConfig& config, const Layout& layout,
                      const Ops& ops) {
  if (layout.tp == 1) return 0;
  ShardWorkspaceShape shape = shard_workspace_shape(options, config, layout, ops);
  if (options.chunked_prefill_size < 0)
    shape.max_rows = std::min<int64_t>(
        shape.max_rows, options.context_length ? options.context_length : config.context_length);
  const StepRows rows{.all = shape.max_rows,
                      .local = most_local_rows(shape),
                      .sequences = std::min<int64_t>(shape.max_sequences, shape.max_rows)};
  return kv_staging(options, shape, rows).bytes() + attn_tp_staging(config, layout, rows).bytes() +
         moe_staging(config, layout, rows).bytes() + order_bytes(options, config, rows);
}

}  // namespace longspan
