#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "device/ops.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"

namespace longspan {

/// What attention of a layer needs beside keys and values.
struct AttendArgs {
  Matrix q;  // f32 or Ops::inner_dtype() [T_local, Hq * Dk]
  int32_t heads_q = 0;
  float scale = 0;
  Matrix out;  // as q [T_local, Hq * Dv]; may be q where it is f32 and Dk = Dv
};

/// What of an exchange's step its rows and pages decide, ready on the host; each exchange has a kind of its
/// own.
struct KvStep {
  virtual ~KvStep() = default;
};

/// Brings a layer's new rows to where they belong, and a rank's queries together with all keys that they see.
/// One object per rank. Every call but pool() and prepare() is collective over the cp group; a rank without
/// rows takes part.
class KvExchange {
 public:
  virtual ~KvExchange() = default;
  virtual KvPool& pool() = 0;

  /// For a step that may not have come yet, while another one runs: not collective. The arguments stay until
  /// the step's end.
  virtual std::unique_ptr<KvStep> prepare(const BatchLayout& batch, const CpPlan& plan,
                                          int32_t cp_rank) const = 0;
  /// Before the first layer. What it takes from the arena, and the step, stay until the step's end.
  virtual void begin_step(OpContext& ctx, const KvStep& step) = 0;

  /// kv: this rank's new rows [T_local, Hk*Dk + Hv*Dv] f32 or Ops::inner_dtype(), K before V. Rows may travel
  /// from here on: they and what start() takes from the arena stay until finish(), after which they are in
  /// their pages.
  virtual void start(OpContext& ctx, int32_t layer, Matrix kv) = 0;
  virtual void finish(OpContext& ctx) = 0;

  /// out = attention of q over all keys, in the layer that finish() has ended.
  virtual void attend(OpContext& ctx, const AttendArgs& args) = 0;
};

/// Ranks that share memory write once into one pool, which they then all read: nothing travels. `comm` is all
/// ranks of the pool, null for a single one; of ranks with the same rows one `writes`.
std::unique_ptr<KvExchange> make_shared_pool_exchange(Ops& ops, KvPool& pool, Communicator* comm,
                                                      bool writes = true);

/// Ranks with a pool each, all of which hold every row: one all_gather_v of rows [K | V] in the pool's dtype,
/// scattered to their slots from the receive buffer (docs/cp.md).
std::unique_ptr<KvExchange> make_merged_gather_exchange(Ops& ops, KvPool& pool, Communicator& comm);

/// A gather of rows [K | V] in the pool's dtype, in two halves.
class RowGather {
 public:
  RowGather(Ops& ops, const KvPool& pool, Communicator& comm) : ops_(ops), pool_(pool), comm_(comm) {}

  /// rows: f32 or the pool's dtype [rank_counts[comm.rank()], Hk*Dk + Hv*Dv]; they and what it takes from the
  /// arena stay until finish(). `padded`: every rank sends as many rows as the one with most, zeros at the
  /// end.
  void start(OpContext& ctx, Matrix rows, const std::vector<int32_t>& rank_counts, std::string_view tag,
             bool padded = false);
  /// The rows of all ranks, in rank order, in the pool's dtype.
  Matrix finish();

 private:
  Ops& ops_;
  const KvPool& pool_;
  Communicator& comm_;
  Matrix received_;
};

/// Columns of a row [K | V].
int64_t k_cols(const KvPool& pool);
int64_t v_cols(const KvPool& pool);
/// Rows [K | V] to their slots.
void write_rows(Ops& ops, OpContext& ctx, KvPool& pool, int32_t layer, Matrix kv, const KvSlots& to);

StagedForms stage_slots(Ops& ops, const KvPool& pool, std::span<const int32_t> slots);
/// Block table of a batch, or of a part of one, as it lies on the host.
BlockTable host_table(std::span<const int32_t> entries, int32_t max_pages);

}  // namespace longspan
