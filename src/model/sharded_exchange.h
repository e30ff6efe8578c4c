#pragma once

#include <memory>
#include <optional>

#include "model/kv_exchange.h"
#include "plan/shard_plan.h"
#include "plan/transfer_cost.h"

namespace longspan {

/// How the ranks of a cp group exchange what they keep once: the same on all of them.
struct ShardedOptions {
  std::optional<KvTransfer> transfer;  // empty: by choose_transfer, step by step
  TransferFigures figures;             // for that
  int32_t heads_q = 0;                 // of the rank's slice
  int32_t round_pages = 1;             // of each owner that travel at a time
};

/// Ranks with a pool each; every page is in one of them (Batch::page_owner). `scratch` is this rank's own, of
/// one layer: it holds a step's rows and those of other owners' pages (shard_scratch_pages).
std::unique_ptr<KvExchange> make_sharded_exchange(Ops& ops, KvPool& pool, KvPool& scratch, Communicator& comm,
                                                  const ShardedOptions& options);

}  // namespace longspan
