#include "model/moe_layer.h"

#include <numeric>

#include "model/mlp_layer.h"
#include "model/travel.h"

namespace longspan {
namespace {

std::vector<int64_t> times(const std::vector<int64_t>& counts, int64_t bytes) {
  std::vector<int64_t> result;
  for (const int64_t count : counts) result.push_back(count * bytes);
  return result;
}

int64_t row_bytes(Matrix m) {
  return m.cols * size_of(m.dtype);
}

}  // namespace

void MoeLayer::forward(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x,
                       Matrix out) const {
  if (!meets_others()) return here(ctx, weights, x, out);
  switch (group_.exchange) {
    case ExpertExchange::kReduce:
      return reduce(ctx, weights, x, out);
    case ExpertExchange::kGather:
      return gather(ctx, weights, plan, x, out);
    case ExpertExchange::kAllToAll:
      return all_to_all(ctx, weights, plan, x, out);
  }
}

void MoeLayer::here(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const {
  routed(ctx, weights, x, out);
  const Arena::Scope scope(ctx.arena);
  const Shared from = make_shared(ctx, weights, x.rows);
  shared(ctx, weights, x, from);
  add_shared(ctx, weights, from, out);
}

void MoeLayer::reduce(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const {
  if (x.rows == 0) return;  // so does every rank of the group
  const Matrix partial = ctx.arena.matrix(x.rows, x.cols);
  ops_.clear(ctx, partial);
  here(ctx, weights, x, partial);
  group_.comm->all_reduce(floats_of(partial), "experts");
  ops_.add(ctx, partial, out);
}

// The rank computes its slice for all rows of the group; the slices' products are added in rank order.
void MoeLayer::gather(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x,
                      Matrix out) const {
  const ExpertGroup& place = group_.place;
  const std::vector<int32_t> rows = section_rows(plan);
  std::vector<int64_t> begin = {0};
  for (const int32_t count : rows) begin.push_back(begin.back() + count);
  const int64_t all = begin.back();
  if (all == 0) return;  // so does every rank of the group
  std::vector<int64_t> recv_bytes;
  std::vector<Communicator::Range> ranges;  // floats of the gathered rows that each rank has
  for (int32_t r = 0; r < place.ranks(); ++r) {
    const int32_t section = place.section_of(r);
    ranges.push_back({begin[section] * x.cols, rows[section] * x.cols});
    recv_bytes.push_back(r % place.copies == 0 ? rows[section] * row_bytes(x) : 0);
  }
  const bool sends = place.rank % place.copies == 0;
  const Matrix gathered = ctx.arena.matrix(all, x.cols);
  group_.comm->start_all_gather_v(sends ? bytes_of(x) : std::span<std::byte>(), bytes_of(gathered),
                                  recv_bytes, "rows for the experts");
  const int64_t own = begin[place.section_of(place.rank)], after = own + x.rows;
  const Shared from = make_shared(ctx, weights, all);
  shared(ctx, weights, x, from.rows(own, x.rows));
  group_.comm->wait();

  const Matrix partial = ctx.arena.matrix(all, x.cols);
  ops_.clear(ctx, partial);
  routed(ctx, weights, gathered, partial);
  shared(ctx, weights, gathered.slice_rows(0, own), from.rows(0, own));
  shared(ctx, weights, gathered.slice_rows(after, all - after), from.rows(after, all - after));
  add_shared(ctx, weights, from, partial);
  const Matrix mine = ctx.arena.matrix(x.rows, x.cols);
  group_.comm->reduce_scatter_v(floats_of(partial), floats_of(mine), ranges, "experts");
  if (x.rows > 0) ops_.add(ctx, mine, out);
}

// Rows go to the owners of their experts, what those make of them comes back and is added in rank order.
void MoeLayer::all_to_all(OpContext& ctx, const MoeWeights& weights, const CpPlan& plan, Matrix x,
                          Matrix out) const {
  const std::vector<int32_t> rows = section_rows(plan);
  const Choices choices = gather_choices(ctx, weights, rows, x);
  if (choices.all.rows == 0) return;  // so does every rank of the group
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < choices.all.rows; ++t) {
    const int32_t* chosen = choices.ids().row<int32_t>(t);
    ids.insert(ids.end(), chosen, chosen + choices.ids().cols);
  }
  const ExpertPlan p = plan_experts(group_.place, rows, ids);

  const Matrix send = ctx.arena.matrix(std::ssize(p.send_rows), x.cols);
  const Matrix work = ctx.arena.matrix(std::ssize(p.work), x.cols);
  if (send.rows > 0) ops_.gather_rows(ctx, x, ops_.upload(ctx, p.send_rows), send);
  group_.comm->start_all_to_all_v(bytes_of(send), times(p.send_counts, row_bytes(x)), bytes_of(work),
                                  times(p.recv_counts, row_bytes(x)), "rows for the experts");
  const int32_t own = group_.place.section_of(group_.place.rank);
  const Shared from = make_shared(ctx, weights, work.rows);
  const auto shared_of = [&](int32_t s) { return from.rows(p.shared[s].begin, p.shared[s].count); };
  shared(ctx, weights, x.slice_rows(p.own_shared.begin, p.own_shared.count), shared_of(own));
  group_.comm->wait();

  const Matrix partial = ctx.arena.matrix(work.rows, x.cols);
  if (work.rows > 0) {
    const Choices chosen{ctx.arena.matrix(work.rows, choices.all.cols)};
    ops_.gather_rows(ctx, choices.all, ops_.upload(ctx, p.work), chosen.all);
    ops_.clear(ctx, partial);
    ops_.moe_experts(ctx, work, chosen.ids(), chosen.weights(), *weights.experts, partial);
  }
  for (int32_t s = 0; s < std::ssize(rows); ++s) {
    const SliceRange here = p.shared[s];
    if (s != own) shared(ctx, weights, work.slice_rows(here.begin, here.count), shared_of(s));
    add_shared(ctx, weights, shared_of(s), partial.slice_rows(here.begin, here.count));
  }

  Matrix results = partial;
  if (group_.place.copies > 1) {
    results = ctx.arena.matrix(std::ssize(p.result_rows), x.cols);
    if (results.rows > 0) ops_.gather_rows(ctx, partial, ops_.upload(ctx, p.result_rows), results);
  }
  const int64_t coming = std::accumulate(p.own_result_counts.begin(), p.own_result_counts.end(), int64_t{0});
  const Matrix came = ctx.arena.matrix(coming, x.cols);
  group_.comm->all_to_all_v(bytes_of(results), times(p.result_counts, row_bytes(x)), bytes_of(came),
                            times(p.own_result_counts, row_bytes(x)), "experts");
  if (x.rows > 0) ops_.moe_combine(ctx, came, ops_.upload(ctx, p.combine), out);
}

std::vector<int32_t> MoeLayer::section_rows(const CpPlan& plan) const {
  std::vector<int32_t> rows;
  for (int32_t s = 0; s < group_.place.sections(); ++s)
    rows.push_back(static_cast<int32_t>(plan.ranks[group_.place.first_cp_rank + s].token_index.size()));
  return rows;
}

void MoeLayer::route(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix ids,
                     Matrix expert_weights) const {
  const Arena::Scope scope(ctx.arena);
  const Matrix logits = ctx.arena.matrix(x.rows, config_.num_experts);
  ops_.linear(ctx, x, *weights.router, logits, /*accumulate=*/false);
  ops_.moe_route(ctx, logits, config_.norm_topk_prob, ids, expert_weights);
}

// Of the rows of all sections. A row's choices are made once: one of its copies sends them.
MoeLayer::Choices MoeLayer::gather_choices(OpContext& ctx, const MoeWeights& weights,
                                           std::span<const int32_t> rows, Matrix x) const {
  const ExpertGroup& place = group_.place;
  const int64_t cols = 2 * int64_t{config_.num_experts_per_tok};
  const Choices all{ctx.arena.matrix(std::accumulate(rows.begin(), rows.end(), int64_t{0}), cols)};
  if (all.all.rows == 0) return all;
  const bool sends = place.rank % place.copies == 0;
  const Choices mine{ctx.arena.matrix(sends ? x.rows : 0, cols)};
  if (mine.all.rows > 0) route(ctx, weights, x, mine.ids(), mine.weights());
  std::vector<int64_t> recv_bytes;
  for (int32_t r = 0; r < place.ranks(); ++r)
    recv_bytes.push_back(r % place.copies == 0 ? rows[place.section_of(r)] * row_bytes(all.all) : 0);
  group_.comm->all_gather_v(bytes_of(mine.all), bytes_of(all.all), recv_bytes, "choices of experts");
  return all;
}

// out += the rank's routed experts of x.
void MoeLayer::routed(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const {
  const Arena::Scope scope(ctx.arena);
  const Matrix ids = ctx.arena.matrix(x.rows, config_.num_experts_per_tok, DType::kI32);
  const Matrix expert_weights = ctx.arena.matrix(x.rows, config_.num_experts_per_tok);
  route(ctx, weights, x, ids, expert_weights);
  ops_.moe_experts(ctx, x, ids, expert_weights, *weights.experts, out);
}

// Gathered rows meet the shared expert on the first ep rank, whoever else holds it.
bool MoeLayer::adds_shared(const MoeWeights& weights) const {
  return weights.shared &&
         (group_.exchange == ExpertExchange::kAllToAll || group_.place.rank < group_.place.moe_tp);
}

MoeLayer::Shared MoeLayer::make_shared(OpContext& ctx, const MoeWeights& weights, int64_t rows) const {
  if (!adds_shared(weights)) return {};
  return {ctx.arena.matrix(rows, config_.hidden_size), ctx.arena.matrix(rows, 1)};
}

void MoeLayer::shared(OpContext& ctx, const MoeWeights& weights, Matrix x, Shared to) const {
  if (!adds_shared(weights) || x.rows == 0) return;
  mlp_layer(ops_, ctx, *weights.shared, x, to.y, /*accumulate=*/false);
  ops_.linear(ctx, x, *weights.shared_gate, to.gate, /*accumulate=*/false);
}

void MoeLayer::add_shared(OpContext& ctx, const MoeWeights& weights, Shared shared, Matrix out) const {
  if (adds_shared(weights) && out.rows > 0) ops_.add_gated(ctx, shared.gate, shared.y, out);
}

}  // namespace longspan
