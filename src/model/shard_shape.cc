#include "model/shard_shape.h"

#include <algorithm>

#include "model/layout_model.h"
#include "plan/rank_slice.h"

namespace longspan {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

std::optional<KvTransfer> forced_transfer(ShardExchange exchange) {
  switch (exchange) {
    case ShardExchange::kGatherKv:
      return KvTransfer::kGatherKv;
    case ShardExchange::kGatherQ:
      return KvTransfer::kGatherQ;
    case ShardExchange::kRing:
      return KvTransfer::kRing;
    case ShardExchange::kAuto:
      break;
  }
  return std::nullopt;
}

int64_t most_new_tokens(const EngineOptions& options, const ModelConfig& config, int32_t cp) {
  const int64_t page = options.page_size;
  const int64_t context = options.context_length ? options.context_length : config.context_length;
  const int64_t pages = options.max_total_tokens ? ceil_div(options.max_total_tokens, page)
                                                 : options.max_running_requests * ceil_div(context, page);
  const int64_t pool = ceil_div(pages, cp) * cp * page;
  return options.chunked_prefill_size < 0 ? pool : std::min<int64_t>(pool, options.chunked_prefill_size);
}

}  // namespace

KvShape kv_pool_shape(const ModelConfig& config, const Layout& layout, int32_t page_size) {
  const RankSlice slice = rank_slice(layout_model(config), layout, 0);
  const auto heads_kv = static_cast<int32_t>(slice.heads_kv.count);
  return {.layers = config.num_layers,
          .pages = 0,
          .page_size = page_size,
          .heads_k = heads_kv,
          .dim_k = config.head_dim,
          .heads_v = heads_kv,
          .dim_v = config.head_dim,
          .heads_q = static_cast<int32_t>(slice.heads_q.count)};
}

ShardWorkspaceShape shard_workspace_shape(const EngineOptions& options, const ModelConfig& config,
                                          const Layout& layout, const Ops& ops) {
  const KvShape pool = kv_pool_shape(config, layout, options.page_size);
  const int64_t values =
      int64_t{pool.layers} * pool.page_size * (pool.heads_k * pool.dim_k + pool.heads_v * pool.dim_v);
  return {.cp = layout.cp,
          .max_rows = most_new_tokens(options, config, layout.cp),
          .max_sequences = options.max_running_requests,
          .min_tokens_to_cut = options.min_tokens_to_cut,
          .page_size = options.page_size,
          .heads_q = pool.heads_q,
          .heads_kv = pool.heads_k,
          .dim_k = pool.dim_k,
          .dim_v = pool.dim_v,
          .kv_bytes = ceil_div(ops.kv_page_bytes(pool), values),  // as its pool stores it, padding included
          .query_bytes = size_of(ops.inner_dtype()),
          .merged_at_once = ops.merged_at_once(),
          .transfer = forced_transfer(options.shard_exchange)};
}

int64_t shard_workspace_bytes(const ShardWorkspaceShape& shape, const KvShape& pool, const Ops& ops) {
  KvShape scratch = pool;
  scratch.layers = 1;
  return shard_scratch_pages(shape) * ops.kv_page_bytes(scratch) + shard_arena_bytes(shape);
}

}  // namespace longspan
