#include "plan/transfer_cost.h"

#include <algorithm>

#include "base/check.h"
#include "plan/activation.h"
#include "plan/zigzag.h"

namespace longspan {
namespace {

// Bytes of a token's keys and values, of its query, and of one result for it.
double key_bytes(const TransferShape& shape) {
  return static_cast<double>(shape.kv_bytes) * shape.heads_kv * (shape.dim_k + shape.dim_v);
}
double query_bytes(const TransferShape& shape) {
  return static_cast<double>(shape.query_bytes * shape.heads_q * shape.dim_k);
}
double result_bytes(const TransferShape& shape) {
  return static_cast<double>(kFloat * shape.heads_q * (shape.dim_v + 1));
}

/// (Row, key) pairs and rows of the sequences that are cut and have earlier keys.
struct CutWork {
  double tokens = 0, keys = 0;              // new tokens, earlier keys
  double earlier_pairs = 0, new_pairs = 0;  // rows with earlier keys, with this step's
};

CutWork cut_work(std::span<const BatchRow> rows, const CpPlan& plan) {
  CutWork work;
  for (size_t s = 0; s < rows.size(); ++s) {
    const auto* blocks = plan.block_len.data() + s * 2 * static_cast<size_t>(plan.cp);
    const double len = rows[s].new_tokens, prefix = rows[s].prefix_len;
    if (prefix == 0 || std::find(blocks, blocks + 2 * plan.cp, rows[s].new_tokens) != blocks + 2 * plan.cp)
      continue;
    work.tokens += len;
    work.keys += prefix;
    work.earlier_pairs += len * prefix;
    work.new_pairs += static_cast<double>(causal_area(0, rows[s].new_tokens));
  }
  return work;
}

}  // namespace

double transfer_seconds(KvTransfer transfer, std::span<const BatchRow> rows, const CpPlan& plan,
                        const TransferShape& shape, const TransferFigures& figures) {
  check(figures.attention_flops > 0 && figures.bytes_per_second > 0, "the figures were measured");
  const CutWork work = cut_work(rows, plan);
  const double cp = plan.cp;
  const auto attend = [&](double pairs) {
    return pairs * 2 * shape.heads_q * (shape.dim_k + shape.dim_v) / figures.attention_flops;
  };
  const auto travel = [&](double bytes) { return figures.latency_s + bytes / figures.bytes_per_second; };
  const auto beside = [&](double a, double b) { return figures.overlaps ? std::max(a, b) : a + b; };
  const double fresh = attend(work.new_pairs / cp);           // this step's keys
  const double block = attend(work.earlier_pairs / cp / cp);  // one owner's
  const double block_bytes = work.keys / cp * key_bytes(shape);
  switch (transfer) {
    case KvTransfer::kGatherKv:
      return beside(travel((cp - 1) * block_bytes), fresh + block) + (cp - 1) * block;
    case KvTransfer::kRing: {
      double seconds = beside(travel(block_bytes), fresh + block);
      for (int32_t step = 2; step < plan.cp; ++step) seconds += beside(travel(block_bytes), block);
      return seconds + block;
    }
    case KvTransfer::kGatherQ: {
      const double others = work.tokens * (cp - 1) / cp;  // rows that come, and results that go
      return beside(travel(others * query_bytes(shape)), fresh) + cp * block +
             travel(others * result_bytes(shape));
    }
  }
  return 0;
}

double share_from_which_keys_travel(const TransferShape& shape) {
  const double keys = key_bytes(shape);
  return keys / (keys + query_bytes(shape) + result_bytes(shape));
}

KvTransfer choose_transfer(std::span<const BatchRow> rows, const CpPlan& plan, const TransferShape& shape,
                           const TransferFigures& figures) {
  KvTransfer best = KvTransfer::kGatherKv;
  double least = transfer_seconds(best, rows, plan, shape, figures);
  for (const KvTransfer other : {KvTransfer::kRing, KvTransfer::kGatherQ}) {
    const double seconds = transfer_seconds(other, rows, plan, shape, figures);
    if (seconds >= least) continue;
    least = seconds;
    best = other;
  }
  return best;
}

}  // namespace longspan
