#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "device/ops.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"

namespace longspan {

/// Page slots of a step's new rows, as one rank needs them.
struct KvSlots {
  IndexArray local;                  // [T_local] slot of each local row
  IndexArray gathered;               // [T] slot of each row of the gather's receive buffer (rank-major)
  std::vector<int32_t> rank_counts;  // [cp] rows from each rank
};

/// Which slots a step writes. Arrays live in the context's arena; `gathered` is empty unless `gather`.
KvSlots make_kv_slots(OpContext& ctx, Ops& ops, const Batch& batch, const CpPlan& plan, int32_t rank,
                      bool gather);

/// Makes every rank of a cp group that will read a layer's new rows have them: after finish(), `pool()` holds
/// the rows of all ranks. One object per rank.
class KvExchange {
 public:
  virtual ~KvExchange() = default;
  virtual KvPool& pool() = 0;
  virtual bool gathers() const = 0;

  /// kv: this rank's new rows [T_local, Hk*Dk + Hv*Dv] f32 or Ops::inner_dtype(), K before V. Rows may travel
  /// from here on: what start() takes from the arena, and `slots`, stay until finish(). Collective over the
  /// cp group, as finish() is.
  virtual void start(OpContext& ctx, int32_t layer, Matrix kv, const KvSlots& slots) = 0;
  virtual void finish(OpContext& ctx) = 0;
};

/// Ranks that share memory write once into one pool, which they then all read: nothing travels. `comm` is all
/// ranks of the pool, null for a single one; of ranks with the same rows one `writes`.
std::unique_ptr<KvExchange> make_shared_pool_exchange(Ops& ops, KvPool& pool, Communicator* comm,
                                                      bool writes = true);

/// Ranks with a pool each: one all_gather_v of rows [K | V] in the pool's dtype, scattered to their slots
/// from the receive buffer (docs/cp.md).
std::unique_ptr<KvExchange> make_merged_gather_exchange(Ops& ops, KvPool& pool, Communicator& comm);

}  // namespace longspan
