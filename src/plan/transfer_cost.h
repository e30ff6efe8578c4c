#pragma once

#include <cstdint>
#include <span>

#include "plan/activation.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"
#include "plan/shard_plan.h"

namespace longspan {

/// What the ranks of a cp group reach, each of them at the same time.
struct TransferFigures {
  double attention_flops = 0;   // per second of one rank
  double bytes_per_second = 0;  // that one rank receives
  double latency_s = 0;         // of a collective in which next to nothing travels
  bool overlaps = true;         // bytes travel while the rank computes

  bool operator==(const TransferFigures&) const = default;
};

/// One layer of one rank's slice.
struct TransferShape {
  int32_t heads_q = 0, heads_kv = 0;  // Hq, Hk = Hv
  int32_t dim_k = 0, dim_v = 0;       // Dk, Dv
  int64_t kv_bytes = 0;               // of an element of K or V
  int64_t query_bytes = kFloat;       // of an element of a query
};

/// Seconds of attention and exchange in one layer, for the sequences of a step that are cut and have earlier
/// keys, those keys spread evenly over the owners (docs/cp.md has the formulas). Partial results travel in
/// f32.
double transfer_seconds(KvTransfer transfer, std::span<const BatchRow> rows, const CpPlan& plan,
                        const TransferShape& shape, const TransferFigures& figures);

/// Share of a sequence's tokens that are new in a step, from which on fewer bytes travel as keys than as
/// queries and results.
double share_from_which_keys_travel(const TransferShape& shape);

/// The one that takes least; where several do, the first of gather-KV, ring, gather-Q. Pure: ranks that agree
/// on the figures agree on the choice.
KvTransfer choose_transfer(std::span<const BatchRow> rows, const CpPlan& plan, const TransferShape& shape,
                           const TransferFigures& figures);

}  // namespace longspan
