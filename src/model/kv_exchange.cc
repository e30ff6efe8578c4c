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

  void begin_step(OpContext& ctx, const KvStep& step) override {
    step_ = &static_cast<const Step&>(step);
    slots_ = ops_.upload_both(ctx, step_->slots);
    segment_pages_ = ops_.upload_staged(ctx, step_->segment_pages);
  }

  void attend(OpContext& ctx, const AttendArgs& args) override {
    if (args.q.rows == 0) return;
    ops_.attention(ctx, {.q = args.q,
                         .pool = &pool_,
                         .layer = layer_,
                         .segments = step_->segments,
                         .block_table = step_->block_table,
                         .segment_pages = segment_pages_,
                         .heads_q = args.heads_q,
                         .scale = args.scale,
                         .out = args.out});
  }

 protected:
  struct Step : KvStep {
    std::span<const Segment> segments;
    BlockTable block_table;
    StagedIndices segment_pages;
    StagedForms slots;                 // of the rows that the rank writes
    std::vector<int32_t> rank_counts;  // [cp]
  };

  std::unique_ptr<Step> make_step(const BatchLayout& batch, const RankPlan& mine,
                                  std::span<const int32_t> slots) const {
    auto step = std::make_unique<Step>();
    step->segments = mine.segments;
    step->block_table = host_table(batch.block_table, batch.max_pages);
    step->segment_pages = ops_.stage_pages(step->segments, step->block_table);
    step->slots = stage_slots(ops_, pool_, slots);
    return step;
  }

  // Of every row, page by page.
  static void append_slots(const BatchLayout& batch, const RankPlan& rank, std::vector<int32_t>& slots) {
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
  const Step* step_ = nullptr;
  KvSlots slots_;

 private:
  IndexArray segment_pages_;
};

class SharedPoolExchange final : public WholePoolExchange {
 public:
  SharedPoolExchange(Ops& ops, KvPool& pool, Communicator* comm, bool writes)
      : WholePoolExchange(ops, pool), comm_(comm), writes_(writes) {}

  std::unique_ptr<KvStep> prepare(const BatchLayout& batch, const CpPlan& plan,
                                  int32_t cp_rank) const override {
    const RankPlan& mine = plan.ranks[cp_rank];
    std::vector<int32_t> slots;
    if (writes_) append_slots(batch, mine, slots);
    return make_step(batch, mine, slots);
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
};

class MergedGatherExchange final : public WholePoolExchange {
 public:
  MergedGatherExchange(Ops& ops, KvPool& pool, Communicator& comm)
      : WholePoolExchange(ops, pool), gather_(ops, pool, comm), may_pad_(comm.pads_gathers()) {}

  // Slots of all rows, in the order of the gather: rank by rank.
  std::unique_ptr<KvStep> prepare(const BatchLayout& batch, const CpPlan& plan,
                                  int32_t cp_rank) const override {
    std::vector<int32_t> slots;
    for (const RankPlan& from : plan.ranks) append_slots(batch, from, slots);
    auto step = make_step(batch, plan.ranks[cp_rank], slots);
    step->rank_counts = plan.rank_counts();
    return step;
  }

  void begin_step(OpContext& ctx, const KvStep& step) override {
    WholePoolExchange::begin_step(ctx, step);
    const std::vector<int32_t>& counts = step_->rank_counts;
    most_ = *std::ranges::max_element(counts);
    padded_ = may_pad_ && std::ranges::count(counts, most_) < std::ssize(counts);
  }

  void start(OpContext& ctx, int32_t layer, Matrix kv) override {
    layer_ = layer;
    gather_.start(ctx, kv, step_->rank_counts, fmt::format("kv of layer {}", layer), padded_);
  }
  void finish(OpContext& ctx) override {
    const Matrix received = gather_.finish();
    if (!padded_) return write_rows(ops_, ctx, pool_, layer_, received, slots_);
    const std::vector<int32_t>& counts = step_->rank_counts;
    int64_t at = 0;
    for (size_t r = 0; r < counts.size(); at += counts[r++])
      write_rows(ops_, ctx, pool_, layer_, received.slice_rows(static_cast<int64_t>(r) * most_, counts[r]),
                 slots_.slice(at, counts[r]));
  }

 private:
  RowGather gather_;
  const bool may_pad_;
  // Of a step:
  int32_t most_ = 0;     // of rank_counts
  bool padded_ = false;  // ranks send as many rows each, and the rows of each are written apart
};

}  // namespace

int64_t k_cols(const KvPool& pool) {
  return int64_t{pool.shape.heads_k} * pool.shape.dim_k;
}
int64_t v_cols(const KvPool& pool) {
  return int64_t{pool.shape.heads_v} * pool.shape.dim_v;
}

void write_rows(Ops& ops, OpContext& ctx, KvPool& pool, int32_t layer, Matrix kv, const KvSlots& to) {
  if (kv.rows == 0) return;
  ops.kv_write(ctx, pool, layer, kv.slice_cols(0, k_cols(pool)), kv.slice_cols(k_cols(pool), v_cols(pool)),
               to);
}

StagedForms stage_slots(Ops& ops, const KvPool& pool, std::span<const int32_t> slots) {
  return ops.stage_both(slots, ops.stage_places(pool, slots));
}

BlockTable host_table(std::span<const int32_t> entries, int32_t max_pages) {
  return {{.host = entries.data(), .size = std::ssize(entries)},
          static_cast<int32_t>(max_pages > 0 ? std::ssize(entries) / max_pages : 0),
          max_pages};
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
