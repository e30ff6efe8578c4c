#include "model/kv_exchange.h"

#include <fmt/format.h>

#include "base/check.h"

namespace longspan {
namespace {

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

class SharedPoolExchange final : public KvExchange {
 public:
  SharedPoolExchange(Ops& ops, KvPool& pool, Communicator* comm, bool writes)
      : ops_(ops), pool_(pool), comm_(comm), writes_(writes) {}

  KvPool& pool() override { return pool_; }
  bool gathers() const override { return false; }

  void start(OpContext& ctx, int32_t layer, Matrix kv, const KvSlots& slots) override {
    layer_ = layer;
    if (writes_) write_rows(ops_, ctx, pool_, layer, kv, slots.local);
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
  Ops& ops_;
  KvPool& pool_;
  Communicator* comm_;
  bool writes_;
  int32_t layer_ = 0;
};

class MergedGatherExchange final : public KvExchange {
 public:
  MergedGatherExchange(Ops& ops, KvPool& pool, Communicator& comm) : ops_(ops), pool_(pool), comm_(comm) {}

  KvPool& pool() override { return pool_; }
  bool gathers() const override { return true; }

  void start(OpContext& ctx, int32_t layer, Matrix kv, const KvSlots& slots) override {
    check(kv.cols == k_cols(pool_) + v_cols(pool_), "kv rows are [K | V]");
    const Matrix send = ctx.arena.matrix(kv.rows, kv.cols, pool_.dtype);
    received_ = ctx.arena.matrix(slots.gathered.size, kv.cols, pool_.dtype);
    slots_ = slots.gathered;
    layer_ = layer;
    if (kv.rows > 0) ops_.convert(ctx, kv, send);
    const int64_t row_bytes = kv.cols * size_of(pool_.dtype);
    std::vector<int64_t> recv_bytes;
    for (const int32_t rows : slots.rank_counts) recv_bytes.push_back(rows * row_bytes);
    comm_.start_all_gather_v(
        {static_cast<const std::byte*>(send.data), static_cast<size_t>(send.rows * row_bytes)},
        {static_cast<std::byte*>(received_.data), static_cast<size_t>(received_.rows * row_bytes)},
        recv_bytes, fmt::format("kv of layer {}", layer));
  }

  void finish(OpContext& ctx) override {
    comm_.wait();
    write_rows(ops_, ctx, pool_, layer_, received_, slots_);
  }

 private:
  Ops& ops_;
  KvPool& pool_;
  Communicator& comm_;
  // Between start and finish:
  Matrix received_;
  IndexArray slots_;
  int32_t layer_ = 0;
};

}  // namespace

KvSlots make_kv_slots(OpContext& ctx, Ops& ops, const Batch& batch, const CpPlan& plan, int32_t rank,
                      bool gather) {
  const RankPlan& mine = plan.ranks[rank];
  std::vector<int32_t> local;
  local.reserve(mine.position.size());
  for (size_t i = 0; i < mine.position.size(); ++i)
    local.push_back(batch.slot(mine.sequence[i], mine.position[i]));
  KvSlots slots{.local = ops.upload(ctx, local), .gathered = {}, .rank_counts = plan.rank_counts()};
  if (gather) {
    std::vector<int32_t> gathered;
    gathered.reserve(batch.token_ids.size());
    for (const RankPlan& from : plan.ranks) {
      for (size_t i = 0; i < from.position.size(); ++i) {
        gathered.push_back(batch.slot(from.sequence[i], from.position[i]));
      }
    }
    slots.gathered = ops.upload(ctx, gathered);
  }
  return slots;
}

std::unique_ptr<KvExchange> make_shared_pool_exchange(Ops& ops, KvPool& pool, Communicator* comm,
                                                      bool writes) {
  return std::make_unique<SharedPoolExchange>(ops, pool, comm, writes);
}

std::unique_ptr<KvExchange> make_merged_gather_exchange(Ops& ops, KvPool& pool, Communicator& comm) {
  return std::make_unique<MergedGatherExchange>(ops, pool, comm);
}

}  // namespace longspan
