#include "model/kv_exchange.h"

#include <fmt/format.h>

#include <algorithm>
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
  // Of every row, page by page.
  static void append_slots(const Batch& batch, const RankPlan& rank, std::vector<int32_t>& slots) {
    for (const Segment& s : rank.segments) {
      for (int32_t at = s.kv_len - s.q_len; at < s.kv_len;) {
        const int32_t end = std::min(s.kv_len, at - at % batch.page_size + batch.page_size);
        for (int32_t slot = batch.slot(s.block_table_row, at); at < end; ++at) slots.push_back(slot++);
      }
    }
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
      : WholePoolExchange(ops, pool), gather_(ops, pool, comm), may_pad_(comm.pads_gathers()) {}

  void begin_step(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t cp_rank) override {
    WholePoolExchange::begin_step(ctx, batch, plan, cp_rank);
    rank_counts_ = plan.rank_counts();
    std::vector<int32_t> slots;
    for (const RankPlan& from : plan.ranks) append_slots(batch, from, slots);
    slots_ = ops_.upload(ctx, slots);
    most_ = *std::max_element(rank_counts_.begin(), rank_counts_.end());
    padded_ = may_pad_ && std::count(rank_counts_.begin(), rank_counts_.end(), most_) < plan.cp;
  }

  void start(OpContext& ctx, int32_t layer, Matrix kv) override {
    layer_ = layer;
    gather_.start(ctx, kv, rank_counts_, fmt::format("kv of layer {}", layer), padded_);
  }
  void finish(OpContext& ctx) override {
    const Matrix received = gather_.finish();
    if (!padded_) return write_rows(ops_, ctx, pool_, layer_, received, slots_);
    int64_t at = 0;
    for (size_t r = 0; r < rank_counts_.size(); at += rank_counts_[r++])
      write_rows(ops_, ctx, pool_, layer_,
                 received.slice_rows(static_cast<int64_t>(r) * most_, rank_counts_[r]),
                 {slots_.host + at, slots_.device + at, rank_counts_[r]});
  }

 private:
  RowGather gather_;
  const bool may_pad_;
  // Of a step:
  std::vector<int32_t> rank_counts_;  // [cp]
  int32_t most_ = 0;                  // of these
  bool padded_ = false;               // ranks send as many rows each, and the rows of each are written apart
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
                      std::string_view tag, bool padded) {
  check(rows.cols == k_cols(pool_) + v_cols(pool_), "kv rows are [K | V]");
  const int64_t most = *std::max_element(rank_counts.begin(), rank_counts.end());
  const int64_t row_bytes = rows.cols * size_of(pool_.dtype);
  std::vector<int64_t> recv_bytes;
  for (const int32_t count : rank_counts) recv_bytes.push_back((padded ? most : count) * row_bytes);
  received_ = ctx.arena.matrix(std::accumulate(recv_bytes.begin(), recv_bytes.end(), int64_t{0}) / row_bytes,
                               rows.cols, pool_.dtype);
  Matrix send = rows;
  const int64_t missing = padded ? most - rows.rows : 0;
  if (missing > 0 || rows.dtype != pool_.dtype || (rows.rows > 1 && rows.row_stride != rows.cols)) {
    send = ctx.arena.matrix(rows.rows + missing, rows.cols, pool_.dtype);
    if (rows.rows > 0) ops_.convert(ctx, rows, send.slice_rows(0, rows.rows));
    if (missing > 0) {  // zeros of any dtype, as floats
      const auto cols = row_bytes / int64_t{sizeof(float)};
      ops_.clear(ctx, {send.slice_rows(rows.rows, missing).data, DType::kF32, missing, cols, cols});
    }
  }
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
