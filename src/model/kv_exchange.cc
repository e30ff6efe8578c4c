#include "model/kv_exchange.h"

#include <fmt/format.h>

#include <numeric>

#include "base/check.h"

namespace longspan {
namespace {

/// Every key that the rank's rows see is in its pool: one launch over all segments.
class WholePoolExchange : public KvExchange {
 public:
  WholePoolExchange(Ops& ops, KvPool& pool) : ops_(ops), pool_(pool) {}

  KvPool& pool() override { return pool_; }

  void begin_step(OpContext&, const Batch& batch, const CpPlan& plan, int32_t cp_rank) override {
    segments_ = plan.ranks[cp_rank].segments;
    block_table_ = {.entries = {.host = batch.block_table.data(), .size = std::ssize(batch.block_table)},
                    .rows = static_cast<int32_t>(batch.rows.size()),
                    .max_pages = batch.max_pages};
  }

  void attend(OpContext& ctx, const AttendArgs& args) override {
    if (args.q.rows == 0) return;
    ops_.attention(ctx, {.q = args.q,
                         .pool = &pool_,
                         .layer = layer_,
                         .segments = segments_,
                         .block_table = block_table_,
                         .heads_q = args.heads_q,
                         .scale = args.scale,
                         .out = args.out});
  }

 protected:
  static void append_slots(const Batch& batch, const RankPlan& rank, std::vector<int32_t>& slots) {
    for (size_t i = 0; i < rank.position.size(); ++i)
      slots.push_back(batch.slot(rank.sequence[i], rank.position[i]));
  }

  Ops& ops_;
  KvPool& pool_;
  int32_t layer_ = 0;

 private:
  std::span<const Segment> segments_;
  BlockTable block_table_;
};

class SharedPoolExchange final : public WholePoolExchange {
 public:
  SharedPoolExchange(Ops& ops, KvPool& pool, Communicator* comm, bool writes)
      : WholePoolExchange(ops, pool), comm_(comm), writes_(writes) {}

  void begin_step(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t cp_rank) override {
    WholePoolExchange::begin_step(ctx, batch, plan, cp_rank);
    std::vector<int32_t> slots;
    append_slots(batch, plan.ranks[cp_rank], slots);
    slots_ = ops_.upload(ctx, slots);
  }

  void start(OpContext& ctx, int32_t layer, Matrix kv) override {
    layer_ = layer;
    if (writes_) write_rows(ops_, ctx, pool_, layer, kv, slots_);
  }
  void finish(OpContext& ctx) override {
    if (!comm_) return;
    const std::string tag = fmt::format("kv of layer {}", layer_);
    if (!ctx.stream) return comm_->barrier(tag);
    // The others have only enqueued their rows, on streams of the same device: what comes next is put behind
    // them there, and no thread waits for the device.
    const Stream::Mark mine = ctx.stream->mark();
    std::vector<Stream::Mark> marks(static_cast<size_t>(comm_->size()));
    const std::vector<int64_t> bytes(marks.size(), sizeof mine);
    comm_->all_gather_v(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(marks)), bytes,
                        tag);
    for (int32_t rank = 0; rank < comm_->size(); ++rank)
      if (rank != comm_->rank()) ctx.stream->after(marks[static_cast<size_t>(rank)]);
  }

 private:
  Communicator* comm_;
  bool writes_;
  IndexArray slots_;  // [T_local]
};

class MergedGatherExchange final : public WholePoolExchange {
 public:
  MergedGatherExchange(Ops& ops, KvPool& pool, Communicator& comm)
      : WholePoolExchange(ops, pool), gather_(ops, pool, comm) {}

  void begin_step(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t cp_rank) override {
    WholePoolExchange::begin_step(ctx, batch, plan, cp_rank);
    rank_counts_ = plan.rank_counts();
    std::vector<int32_t> slots;
    for (const RankPlan& from : plan.ranks) append_slots(batch, from, slots);
    slots_ = ops_.upload(ctx, slots);
  }

  void start(OpContext& ctx, int32_t layer, Matrix kv) override {
    layer_ = layer;
    gather_.start(ctx, kv, rank_counts_, fmt::format("kv of layer {}", layer));
  }
  void finish(OpContext& ctx) override { write_rows(ops_, ctx, pool_, layer_, gather_.finish(), slots_); }

 private:
  RowGather gather_;
  std::vector<int32_t> rank_counts_;  // [cp]
  IndexArray slots_;                  // [T] of each row of the gather (rank-major)
};

}  // namespace

int64_t k_cols(const KvPool& pool) {
  return int64_t{pool.shape.heads_k} * pool.shape.dim_k;
}
int64_t v_cols(const KvPool& pool) {
  return int64_t{pool.shape.heads_v} * pool.shape.dim_v;
}

void write_rows(Ops& ops, OpContext& ctx, KvPool& pool, int32_t layer, Matrix kv, IndexArray slots) {
  if (kv.rows == 0) return;
  ops.kv_write(ctx, pool, layer, kv.slice_cols(0, k_cols(pool)), kv.slice_cols(k_cols(pool), v_cols(pool)),
               slots);
}

void RowGather::start(OpContext& ctx, Matrix rows, const std::vector<int32_t>& rank_counts,
                      std::string_view tag) {
  check(rows.cols == k_cols(pool_) + v_cols(pool_), "kv rows are [K | V]");
  const Matrix send = ctx.arena.matrix(rows.rows, rows.cols, pool_.dtype);
  received_ = ctx.arena.matrix(std::accumulate(rank_counts.begin(), rank_counts.end(), int64_t{0}), rows.cols,
                               pool_.dtype);
  if (rows.rows > 0) ops_.convert(ctx, rows, send);
  const int64_t row_bytes = rows.cols * size_of(pool_.dtype);
  std::vector<int64_t> recv_bytes;
  for (const int32_t count : rank_counts) recv_bytes.push_back(count * row_bytes);
  comm_.start_all_gather_v(
      {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.rows * row_bytes)},
      {static_cast<std::byte*>(received_.data), static_cast<size_t>(received_.rows * row_bytes)}, recv_bytes,
      tag);
}

Matrix RowGather::finish() {
  comm_.wait();
  return received_;
}

std::unique_ptr<KvExchange> make_shared_pool_exchange(Ops& ops, KvPool& pool, Communicator* comm,
                                                      bool writes) {
  return std::make_unique<SharedPoolExchange>(ops, pool, comm, writes);
}

std::unique_ptr<KvExchange> make_merged_gather_exchange(Ops& ops, KvPool& pool, Communicator& comm) {
  return std::make_unique<MergedGatherExchange>(ops, pool, comm);
}

}  // namespace longspan
