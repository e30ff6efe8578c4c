#include "model/sharded_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "model/travel.h"

namespace longspan {
namespace {

/// A PartLaunch, ready for kernels; what it points to is in the plan.
struct StagedLaunch {
  std::span<const Segment> segments;
  BlockTable table;
  StagedIndices pages;
};
struct StagedRound {
  StagedForms send_slots;
  std::vector<StagedForms> recv_slots;  // [cp]
  std::vector<StagedLaunch> parts;      // [cp]
  StagedForms merge;                    // [1 + cp, T_local]
};

/// The same with their arrays where kernels read them.
struct Launch {
  std::span<const Segment> segments;
  BlockTable table;
  IndexArray pages;
};
struct Round {
  KvSlots send_slots;
  std::vector<KvSlots> recv_slots;
  std::vector<Launch> parts;
  IndexForms merge;
};

struct ShardStep final : KvStep {
  KvTransfer transfer = KvTransfer::kGatherKv;
  ShardPlan plan;
  std::vector<int32_t> rank_counts;  // [cp]
  StagedForms own_slots, scratch_slots;
  StagedIndices query_rows;
  StagedForms query_merge;
  StagedLaunch chunk, queries;
  std::vector<StagedRound> rounds;
};

class ShardedExchange final : public KvExchange {
 public:
  ShardedExchange(Ops& ops, KvPool& pool, KvPool& scratch, Communicator& comm, const ShardedOptions& options)
      : ops_(ops),
        pool_(pool),
        scratch_(scratch),
        comm_(comm),
        options_(options),
        chunk_gather_(ops, pool, comm),
        key_gather_(ops, pool, comm) {
    check(ops.merges_partials(), "sharded KV needs a device that merges partial results");
  }

  KvPool& pool() override { return pool_; }
  std::unique_ptr<KvStep> prepare(const BatchLayout& batch, const CpPlan& plan,
                                  int32_t cp_rank) const override;
  void begin_step(OpContext& ctx, const KvStep& step) override;
  void start(OpContext& ctx, int32_t layer, Matrix kv) override {
    layer_ = layer;
    chunk_gather_.start(ctx, kv, step_->rank_counts, tag("kv"));
  }
  void finish(OpContext& ctx) override {
    const Matrix received = chunk_gather_.finish();
    write_rows(ops_, ctx, pool_, layer_, received, own_slots_);
    write_rows(ops_, ctx, scratch_, 0, received, scratch_slots_);
  }
  void attend(OpContext& ctx, const AttendArgs& args) override;

 private:
  /// What attention of a layer makes: rows of partial results, each with its log-sum-exp behind it.
  struct Partials {
    Matrix all;  // f32 [N, Hq * Dv + Hq]
    int32_t heads_q;
    Matrix out() const { return all.slice_cols(0, all.cols - heads_q); }
    Matrix lse() const { return all.slice_cols(all.cols - heads_q, heads_q); }
    Partials rows(int64_t begin, int64_t count) const { return {all.slice_rows(begin, count), heads_q}; }
  };

  std::string tag(const char* what) const { return fmt::format("{} of layer {}", what, layer_); }
  TransferShape shape() const {
    const KvShape& s = pool_.shape;
    return {options_.heads_q, s.heads_k, s.dim_k, s.dim_v, size_of(pool_.dtype), size_of(ops_.inner_dtype())};
  }
  StagedLaunch stage_launch(const PartLaunch& part) const {
    const BlockTable table = host_table(part.block_table, part.max_pages);
    return {part.segments, table, ops_.stage_pages(part.segments, table)};
  }
  Launch upload_launch(OpContext& ctx, const StagedLaunch& part) const {
    return {part.segments, part.table, ops_.upload_staged(ctx, part.pages)};
  }
  StagedForms stage_merge(const std::vector<int32_t>& rows) const {
    return ops_.stage_both(rows, ops_.stage_parts(rows, std::ssize(rows) / (1 + comm_.size())));
  }
  Partials make_partials(OpContext& ctx, int64_t rows, const AttendArgs& args) const {
    const int64_t cols = int64_t{args.heads_q} * (pool_.shape.dim_v + 1);
    return {ctx.arena.matrix(rows, cols), args.heads_q};
  }
  void attend_part(OpContext& ctx, const AttendArgs& args, Matrix q, const Launch& launch, KvPool& pool,
                   Partials to);
  void exchange_queries(OpContext& ctx, const AttendArgs& args, Partials partials);
  void gather_keys(OpContext& ctx, const AttendArgs& args, const ShardRound& plan, const Round& round,
                   Partials partials);
  void pass_keys_round(OpContext& ctx, const AttendArgs& args, const ShardRound& plan, const Round& round,
                       Partials partials);
  Matrix own_keys(OpContext& ctx, const Round& round);
  void attend_to_chunk(OpContext& ctx, const AttendArgs& args, Partials partials);
  void attend_to_owner(OpContext& ctx, const AttendArgs& args, const Round& round, int32_t owner,
                       Partials partials);
  void merge(OpContext& ctx, const AttendArgs& args, Partials partials, const IndexForms& of, bool last);

  Ops& ops_;
  KvPool& pool_;
  KvPool& scratch_;
  Communicator& comm_;
  const ShardedOptions options_;
  RowGather chunk_gather_, key_gather_;
  // Of a step:
  const ShardStep* step_ = nullptr;
  KvSlots own_slots_, scratch_slots_;
  IndexArray query_rows_;
  IndexForms query_merge_;
  Launch chunk_, queries_;
  std::vector<Round> rounds_;
  // Of a layer:
  int32_t layer_ = 0;
  bool chunk_is_done_ = false;
};

std::unique_ptr<KvStep> ShardedExchange::prepare(const BatchLayout& batch, const CpPlan& plan,
                                                 int32_t cp_rank) const {
  check(plan.cp == comm_.size() && cp_rank == comm_.rank(), "the plan is of this cp group");
  auto step = std::make_unique<ShardStep>();
  step->transfer =
      options_.transfer ? *options_.transfer : choose_transfer(batch.rows, plan, shape(), options_.figures);
  step->plan =
      plan_shards(batch, plan, cp_rank, {.transfer = step->transfer, .round_pages = options_.round_pages});
  const ShardPlan& shards = step->plan;
  check(shards.scratch_pages <= scratch_.shape.pages, "the scratch pool holds a step");
  step->rank_counts = plan.rank_counts();
  step->own_slots = stage_slots(ops_, pool_, shards.own_slots);
  step->scratch_slots = stage_slots(ops_, scratch_, shards.scratch_slots);
  step->query_rows = ops_.stage(shards.query_rows);
  step->query_merge = stage_merge(shards.query_merge);
  step->chunk = stage_launch(shards.chunk);
  step->queries = stage_launch(shards.queries);
  for (const ShardRound& round : shards.rounds) {
    StagedRound& here = step->rounds.emplace_back();
    here.send_slots = stage_slots(ops_, pool_, round.send_slots);
    here.merge = stage_merge(round.merge);
    for (const auto& slots : round.recv_slots) here.recv_slots.push_back(stage_slots(ops_, scratch_, slots));
    for (const PartLaunch& part : round.parts) here.parts.push_back(stage_launch(part));
  }
  return step;
}

void ShardedExchange::begin_step(OpContext& ctx, const KvStep& step) {
  step_ = &static_cast<const ShardStep&>(step);
  own_slots_ = ops_.upload_both(ctx, step_->own_slots);
  scratch_slots_ = ops_.upload_both(ctx, step_->scratch_slots);
  query_rows_ = ops_.upload_staged(ctx, step_->query_rows);
  query_merge_ = ops_.upload_both(ctx, step_->query_merge);
  chunk_ = upload_launch(ctx, step_->chunk);
  queries_ = upload_launch(ctx, step_->queries);
  rounds_.clear();
  for (const StagedRound& round : step_->rounds) {
    Round& here = rounds_.emplace_back();
    here.send_slots = ops_.upload_both(ctx, round.send_slots);
    here.merge = ops_.upload_both(ctx, round.merge);
    for (const StagedForms& slots : round.recv_slots) here.recv_slots.push_back(ops_.upload_both(ctx, slots));
    for (const StagedLaunch& part : round.parts) here.parts.push_back(upload_launch(ctx, part));
  }
}

void ShardedExchange::attend(OpContext& ctx, const AttendArgs& args) {
  if (!step_->plan.needs_merge()) {
    if (args.q.rows > 0)
      ops_.attention(ctx, {.q = args.q,
                           .pool = &scratch_,
                           .layer = 0,
                           .segments = chunk_.segments,
                           .block_table = chunk_.table,
                           .segment_pages = chunk_.pages,
                           .heads_q = args.heads_q,
                           .scale = args.scale,
                           .out = args.out});
    return;
  }
  check(args.heads_q == options_.heads_q, "the queries are of the rank's slice");
  const Arena::Scope scope(ctx.arena);
  const Partials partials = make_partials(ctx, step_->plan.partial_rows, args);
  chunk_is_done_ = false;
  if (step_->plan.any_queries) exchange_queries(ctx, args, partials);
  if (rounds_.empty()) merge(ctx, args, partials, query_merge_, /*last=*/true);
  for (size_t i = 0; i < rounds_.size(); ++i) {
    const Arena::Scope round_scope(ctx.arena);
    if (step_->transfer == KvTransfer::kRing) {
      pass_keys_round(ctx, args, step_->plan.rounds[i], rounds_[i], partials);
    } else {
      gather_keys(ctx, args, step_->plan.rounds[i], rounds_[i], partials);
    }
    merge(ctx, args, partials, rounds_[i].merge, i + 1 == rounds_.size());
  }
}

void ShardedExchange::attend_part(OpContext& ctx, const AttendArgs& args, Matrix q, const Launch& launch,
                                  KvPool& pool, Partials to) {
  if (launch.segments.empty()) return;
  ops_.attention(ctx, {.q = q,
                       .pool = &pool,
                       .layer = &pool == &scratch_ ? 0 : layer_,
                       .segments = launch.segments,
                       .block_table = launch.table,
                       .segment_pages = launch.pages,
                       .heads_q = args.heads_q,
                       .scale = args.scale,
                       .out = to.out(),
                       .lse_ln = to.lse()});
}

// This step's keys are there already: they are attended to while the first rows travel.
void ShardedExchange::attend_to_chunk(OpContext& ctx, const AttendArgs& args, Partials partials) {
  if (std::exchange(chunk_is_done_, true)) return;
  attend_part(ctx, args, args.q, chunk_, scratch_, partials.rows(0, args.q.rows));
}

void ShardedExchange::attend_to_owner(OpContext& ctx, const AttendArgs& args, const Round& round,
                                      int32_t owner, Partials partials) {
  attend_part(ctx, args, args.q, round.parts[owner], owner == comm_.rank() ? pool_ : scratch_,
              partials.rows((1 + owner) * args.q.rows, args.q.rows));
}

// All queries come here, and what this rank's keys make of them goes back.
void ShardedExchange::exchange_queries(OpContext& ctx, const AttendArgs& args, Partials partials) {
  const Arena::Scope scope(ctx.arena);
  const std::vector<int32_t>& counts = step_->plan.query_counts;
  const int64_t mine = query_rows_.size;
  int64_t all = 0;
  std::vector<int64_t> query_bytes, result_bytes, partial_bytes;
  for (const int32_t count : counts) {
    all += count;
    query_bytes.push_back(count * args.q.cols * size_of(args.q.dtype));
    result_bytes.push_back(count * partials.all.cols * int64_t{sizeof(float)});
    partial_bytes.push_back(mine * partials.all.cols * int64_t{sizeof(float)});
  }
  const Matrix send = ctx.arena.matrix(mine, args.q.cols, args.q.dtype),
               queries = ctx.arena.matrix(all, args.q.cols, args.q.dtype);
  if (mine > 0) ops_.gather_rows(ctx, args.q, query_rows_, send);
  comm_.start_all_gather_v(bytes_of(send), bytes_of(queries), query_bytes, tag("queries"));
  attend_to_chunk(ctx, args, partials);
  comm_.wait();
  const Partials results = make_partials(ctx, all, args);
  attend_part(ctx, args, queries, queries_, pool_, results);
  comm_.all_to_all_v(bytes_of(results.all), result_bytes,
                     bytes_of(partials.all.slice_rows(step_->plan.query_base, mine * comm_.size())),
                     partial_bytes, tag("partial attention"));
}

// This rank's earlier keys of a round, as a device reads them.
Matrix ShardedExchange::own_keys(OpContext& ctx, const Round& round) {
  const int64_t cols = k_cols(pool_) + v_cols(pool_);
  const Matrix rows = ctx.arena.matrix(round.send_slots.slots.size, cols, ops_.inner_dtype());
  if (rows.rows > 0)
    ops_.kv_read(ctx, pool_, layer_, round.send_slots, rows.slice_cols(0, k_cols(pool_)),
                 rows.slice_cols(k_cols(pool_), v_cols(pool_)));
  return rows;
}

void ShardedExchange::gather_keys(OpContext& ctx, const AttendArgs& args, const ShardRound& plan,
                                  const Round& round, Partials partials) {
  key_gather_.start(ctx, own_keys(ctx, round), plan.counts, tag("earlier kv"));
  attend_to_chunk(ctx, args, partials);
  attend_to_owner(ctx, args, round, comm_.rank(), partials);
  const Matrix received = key_gather_.finish();
  int64_t at = 0;
  for (int32_t owner = 0; owner < comm_.size(); ++owner) {
    if (owner != comm_.rank()) {
      write_rows(ops_, ctx, scratch_, 0, received.slice_rows(at, plan.counts[owner]),
                 round.recv_slots[owner]);
      attend_to_owner(ctx, args, round, owner, partials);
    }
    at += plan.counts[owner];
  }
}

// Every owner's keys go once round the group. While one's are attended to, the next ones travel.
void ShardedExchange::pass_keys_round(OpContext& ctx, const AttendArgs& args, const ShardRound& plan,
                                      const Round& round, Partials partials) {
  const int32_t cp = comm_.size(), rank = comm_.rank();
  const int64_t cols = k_cols(pool_) + v_cols(pool_);
  const int64_t most = *std::max_element(plan.counts.begin(), plan.counts.end());
  const Matrix own = own_keys(ctx, round);
  Matrix buffers[] = {ctx.arena.matrix(most, cols, pool_.dtype), ctx.arena.matrix(most, cols, pool_.dtype)};
  Matrix here = buffers[0].slice_rows(0, own.rows);
  if (own.dtype == pool_.dtype)
    here = own;
  else if (own.rows > 0)
    ops_.convert(ctx, own, here);
  for (int32_t step = 0; step < cp; ++step) {
    const int32_t owner = (rank + cp - step) % cp, next = (rank + 2 * cp - step - 1) % cp;
    const bool more = step + 1 < cp;
    const Matrix coming = buffers[(step + 1) % 2].slice_rows(0, plan.counts[next]);
    if (more) comm_.start_shift(bytes_of(here), bytes_of(coming), tag("earlier kv"));
    attend_to_chunk(ctx, args, partials);
    attend_to_owner(ctx, args, round, owner, partials);
    if (!more) break;
    comm_.wait();
    write_rows(ops_, ctx, scratch_, 0, coming, round.recv_slots[next]);
    here = coming;
  }
}

// Into `out` at the end, before that into the place of the first part.
void ShardedExchange::merge(OpContext& ctx, const AttendArgs& args, Partials partials, const IndexForms& of,
                            bool last) {
  if (args.q.rows == 0) return;
  const Partials first = partials.rows(0, args.q.rows);
  ops_.merge_partials(ctx, {.partials = partials.out(),
                            .lse_ln = partials.lse(),
                            .rows = of.values,
                            .parts = of.form,
                            .heads_q = args.heads_q,
                            .out = last ? args.out : first.out(),
                            .out_lse_ln = last ? Matrix{} : first.lse()});
}

}  // namespace

std::unique_ptr<KvExchange> make_sharded_exchange(Ops& ops, KvPool& pool, KvPool& scratch, Communicator& comm,
                                                  const ShardedOptions& options) {
  return std::make_unique<ShardedExchange>(ops, pool, scratch, comm, options);
}

}  // namespace longspan
