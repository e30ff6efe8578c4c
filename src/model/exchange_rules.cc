#include "model/exchange_rules.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include "model/shard_shape.h"

namespace longspan {

void check_exchange(const EngineOptions& options, const Layout& layout, const ModelConfig& config,
                    bool share_kv, Device& device) {
  if (options.hccl && device.in_host_memory())
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("backend {}: --comm hccl is for --backend ascend; use threads or mpi", options.backend));
  if (options.shard_kv && layout.cp > 1) {
    if (!device.in_host_memory() && !options.hccl)
      throw Error(ErrorCode::kNotSupported,
                  fmt::format("backend {}: --kv shard deals pages out to cards, and only --comm hccl gives "
                              "each rank one; use it, or --kv replicate",
                              options.backend));
    device.ops().check_partials(kv_pool_shape(config, layout, options.page_size));
  }
  if (layout.ep > 1) device.ops().check_split_experts();
  if (device.in_host_memory() || options.hccl) return;
  const bool experts_meet = config.num_experts > 0 && layout.moe_dp != layout.cp;
  if (layout.attn_tp == 1 && !experts_meet && share_kv) return;
  throw Error(
      ErrorCode::kNotSupported,
      fmt::format(
          "backend {}: ranks that share a card exchange nothing but KV in one pool: attn_tp must be 1 "
          "(is {}), moe_dp must be cp {} (is {}), with --comm threads and --kv-exchange shared; use "
          "--comm hccl, which gives each rank a card",
          options.backend, layout.attn_tp, layout.cp, layout.moe_dp));
}

}  // namespace longspan
