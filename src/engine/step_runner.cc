#include "engine/step_runner.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>

#include "base/check.h"
#include "device/cpu/parallel.h"
#include "engine/kv_memory.h"
#include "engine/rank_setup.h"
#include "engine/request_rules.h"
#include "engine/transfer_setup.h"
#include "model/exchange_rules.h"
#include "model/layout_model.h"
#include "model/message_memory.h"
#include "model/shard_shape.h"
#include "model/sharded_exchange.h"
#include "model/transfer_probe.h"
#include "plan/cp_plan.h"
#include "plan/rank_slice.h"

namespace longspan {
namespace {

// For every rank its place in its group; null where it is alone there.
template <class GroupOf>
std::vector<std::unique_ptr<Communicator>> make_rank_groups(int32_t ranks, std::chrono::milliseconds limit,
                                                            GroupOf group_of) {
  std::vector<std::unique_ptr<Communicator>> result(ranks);
  for (int32_t rank = 0; rank < ranks; ++rank) {
    const std::vector<int32_t> group = group_of(rank);
    if (group.size() == 1 || group.front() != rank) continue;
    auto members = make_threads_group(static_cast<int32_t>(group.size()), limit);
    for (size_t i = 0; i < group.size(); ++i) result[group[i]] = std::move(members[i]);
  }
  return result;
}

}  // namespace

StepRunner::StepRunner(const EngineOptions& options, const ModelConfig& config, Checkpoint checkpoint,
                       std::unique_ptr<Device> device)
    : options_(options),
      config_(config),
      checkpoint_(std::move(checkpoint)),
      layout_(make_layout(options.layout, layout_model(config))),
      job_(options.job.get()),
      shard_kv_(options.shard_kv && layout_.cp > 1),
      share_kv_(options.share_kv && !job_ && !shard_kv_ && !options.hccl),
      has_wide_rank_(layout_.cp > 1 && share_kv_ && has_whole_ranks(layout_, layout_model(config))),
      device_(std::move(device)) {
  together(job_, "what ranks exchange", [&] {
    check_exchange(options, layout_, config, share_kv_, *device_);
    for (int32_t rank = 1; options.hccl && !job_ && rank < layout_.tp; ++rank) {
      more_devices_.push_back(device_->another(rank));
      if (shard_kv_)
        more_devices_.back()->ops().check_partials(kv_pool_shape(config, layout_, options.page_size));
    }
    return true;
  });
  const HostShare host = share_of_host(job_, options.threads);
  const int32_t ranks = job_ ? 1 : layout_.tp;
  const auto shares = share_cores(host.cores, options.threads, ranks, has_wide_rank_);
  const bool oversubscribed = host.oversubscribed || std::ssize(shares[0]) * ranks > std::ssize(host.cores) ||
                              options.threads > std::ssize(host.cores);
  team_ = together(job_, "starting threads",
                   [&] { return std::make_unique<RankTeam>(shares, /*pin=*/!oversubscribed); });
  {
    const TeamSize packing(options.threads > 0 ? options.threads : static_cast<int>(host.cores.size()));
    load(shares);
  }
  make_pools(host.processes);
  together(job_, "joining groups", [&] {
    make_groups();
    return true;
  });
  if (job_) orders_ = std::make_unique<StepOrders>(*job_, layout_, comm_timeout(options.comm_timeout_s));
}

void StepRunner::load(const std::vector<std::vector<int>>& shares) {
  PackedSlices packed;
  together(job_, "loading the weights", [&] {
    for (size_t i = 0; i < shares.size(); ++i) {
      add_rank(has_wide_rank_ && i + 1 == shares.size() ? layout_.tp : rank_of(i),
               static_cast<int>(shares[i].size()), packed);
      if (more_devices_.empty() && i + 1 < shares.size()) continue;
      weight_bytes_ += packed.bytes();
      device_weight_bytes_ = std::max(device_weight_bytes_, packed.bytes());
      PackedSlices of_next;  // another device has slices of its own
      of_next.tensors = std::move(packed.tensors);
      packed = std::move(of_next);
    }
    return true;
  });
  if (job_) add_tensors_of_others(*job_, checkpoint_, packed);
  together(job_, "looking for unread weights", [&] {
    refuse_unread_tensors(config_, checkpoint_, packed);
    return true;
  });
}

// The rank's weights and place; the wide rank, numbered after all others, is a layout of its own.
void StepRunner::add_rank(int32_t rank, int threads, PackedSlices& packed) {
  const bool wide = rank == layout_.tp;
  const Layout layout = wide ? Layout{} : layout_;
  const RankCoordinates at = layout.coordinates(wide ? 0 : rank);
  Rank added;
  added.device = more_devices_.empty() || rank == 0 ? device_.get() : more_devices_[rank - 1].get();
  added.arena = std::make_unique<Arena>(added.device->memory());
  added.cp_rank = at.cp_rank;
  added.reports = at.attn_tp_rank == 0;
  added.threads = threads;
  added.stream = added.device->make_stream();
  ranks_.push_back(std::move(added));
  const RankSlice slice = rank_slice(layout_model(config_), layout, wide ? 0 : rank, !share_kv_);
  weights_.push_back(load_weights(config_, checkpoint_, slice, ranks_.back().device->ops(), packed));
}

// As many pages on every rank as fit on each.
void StepRunner::make_pools(int32_t processes_on_host) {
  Ops& ops = device_->ops();
  KvShape shape = kv_pool_shape(config_, layout_, options_.page_size);
  const int32_t pools = share_kv_ ? kv_slices(layout_model(config_), layout_) : job_ ? 1 : layout_.tp;
  const bool alone = options_.hccl;  // on its device
  KvMemory memory{.memory_bytes = device_->memory_bytes() / (alone ? 1 : processes_on_host),
                  .weight_bytes = device_weight_bytes_,
                  .workspace_bytes = 0,
                  .page_bytes = ops.kv_page_bytes(shape) * (alone ? 1 : pools),
                  .owners = page_owners()};
  KvShape scratch = shape;
  scratch.layers = 1;
  if (shard_kv_) {
    const ShardWorkspaceShape workspace = shard_workspace_shape(options_, config_, layout_, ops);
    scratch.pages = static_cast<int32_t>(shard_scratch_pages(workspace));
    memory.workspace_bytes = (alone ? 1 : pools) * shard_workspace_bytes(workspace, shape, ops);
  }
  if (job_ && !alone) memory.workspace_bytes += message_bytes(options_, config_, layout_, ops);
  pages_ = together(job_, "counting KV pages", [&] { return count_pages(options_, config_, memory); });
  if (job_) {
    for (const std::string& pages : exchange_texts(*job_, std::to_string(pages_), "KV pages"))
      pages_ = std::min(pages_, std::stoi(pages));
  }
  shape.pages = pages_;
  together(job_, "reserving KV pages", [&] {
    for (int32_t i = 0; i < pools; ++i)
      pools_.push_back((share_kv_ ? ops : ranks_[i].device->ops()).make_kv_pool(shape));
    for (int32_t i = 0; shard_kv_ && i < pools; ++i)
      scratch_pools_.push_back(ranks_[i].device->ops().make_kv_pool(scratch));
    return true;
  });
}

void StepRunner::make_groups() {
  const LayoutModel model = layout_model(config_);
  const auto kv_group = [&](int32_t rank) {
    if (!share_kv_) return layout_.cp_group(rank);
    std::vector<int32_t> group;
    for (int32_t other = 0; other < layout_.tp; ++other)
      if (kv_slice(model, layout_, other) == kv_slice(model, layout_, rank)) group.push_back(other);
    return group;
  };
  const auto attn_tp_group = [&](int32_t rank) { return layout_.attn_tp_group(rank); };
  const auto moe_group = [&](int32_t rank) { return layout_.moe_group(rank); };
  // Of cards, one group that serves both takes half the memory.
  const bool one_group =
      options_.hccl && (config_.num_experts == 0 || layout_.moe_group(0) == layout_.attn_tp_group(0));
  // Cards take the counts of a collective from the host, so rows to the owners of experts would wait for it.
  ExpertExchange exchange = choose_expert_exchange(model, layout_);
  if (options_.hccl && exchange == ExpertExchange::kAllToAll) exchange = ExpertExchange::kGather;
  auto kv = make_group(kKv, kv_group);
  auto attn_tp = make_group(kAttnTp, attn_tp_group);
  auto moe =
      one_group ? std::vector<std::unique_ptr<Communicator>>(ranks_.size()) : make_group(kMoe, moe_group);

  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    RankGroups groups;
    if (!is_wide(i)) {
      rank.kv = std::move(kv[i]);
      rank.attn_tp = std::move(attn_tp[i]);
      rank.moe = std::move(moe[i]);
      groups.attn_tp = rank.attn_tp.get();
      groups.moe = {.comm = one_group ? groups.attn_tp : rank.moe.get(),
                    .exchange = exchange,
                    .place = expert_group(model, layout_, rank_of(i))};
    }
    rank.decoder = std::make_unique<Decoder>(config_, std::move(weights_[i]), groups, rank.device->ops());
  }
  weights_.clear();
  TransferFigures figures;
  if (shard_kv_ && options_.shard_exchange == ShardExchange::kAuto) figures = transfer_figures();
  for (size_t i = 0; i < ranks_.size(); ++i) ranks_[i].exchange = make_exchange(i, figures);
}

// For each rank of this process its place in its group of this kind; null where it is alone there.
std::vector<std::unique_ptr<Communicator>> StepRunner::make_group(JobChannel channel,
                                                                  const GroupOf& group_of) {
  if (options_.hccl && !job_) return join_cards(group_of);
  const std::chrono::milliseconds limit = comm_timeout(options_.comm_timeout_s);
  if (!job_) return make_rank_groups(layout_.tp, limit, group_of);
  std::vector<std::unique_ptr<Communicator>> mine(1);
  const std::vector<int32_t> group = group_of(job_->rank());
  if (options_.hccl)
    mine[0] = join_cards_of_job(*job_, group, *device_, context_of(ranks_[0]));
  else if (group.size() > 1)
    mine[0] = job_->make_group(group, channel, limit);
  return mine;
}

// The same where the cards of one process meet by themselves: the first rank of a group makes what its ranks
// find each other by.
std::vector<std::unique_ptr<Communicator>> StepRunner::join_cards(const GroupOf& group_of) {
  std::map<int32_t, std::vector<std::byte>> roots;  // by a group's first rank
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const std::vector<int32_t> group = group_of(rank_of(i));
    if (group.size() > 1 && group.front() == rank_of(i)) roots[rank_of(i)] = ranks_[i].device->new_group();
  }
  std::vector<std::unique_ptr<Communicator>> places(ranks_.size());
  team_->run(
      0, static_cast<int>(ranks_.size()),
      [&](int worker) {
        const std::vector<int32_t> group = group_of(rank_of(worker));
        if (group.size() == 1) return;
        const auto place = std::find(group.begin(), group.end(), rank_of(worker)) - group.begin();
        const Rank& rank = ranks_[worker];
        places[worker] = rank.device->join_group(roots.at(group.front()), static_cast<int32_t>(place),
                                                 static_cast<int32_t>(group.size()), context_of(rank));
      },
      [](int, const std::string&) {});
  return places;
}

std::unique_ptr<KvExchange> StepRunner::make_exchange(size_t index, const TransferFigures& figures) {
  Ops& ops = ranks_[index].device->ops();
  const LayoutModel model = layout_model(config_);
  Communicator* const comm = ranks_[index].kv.get();
  const size_t pool = !share_kv_ ? index : is_wide(index) ? 0 : kv_slice(model, layout_, rank_of(index));
  if (shard_kv_) {
    const ShardWorkspaceShape workspace = shard_workspace_shape(options_, config_, layout_, ops);
    return make_sharded_exchange(ops, *pools_[pool], *scratch_pools_[pool], *comm,
                                 {.transfer = workspace.transfer,
                                  .figures = figures,
                                  .heads_q = workspace.heads_q,
                                  .round_pages = shard_round_pages(workspace)});
  }
  const bool writes = is_wide(index) || rank_slice(model, layout_, rank_of(index)).writes_kv;
  return share_kv_ || !comm ? make_shared_pool_exchange(ops, *pools_[pool], comm, writes || !share_kv_)
                            : make_merged_gather_exchange(ops, *pools_[pool], *comm);
}

TransferFigures StepRunner::transfer_figures() {
  const KvShape kv = kv_pool_shape(config_, layout_, options_.page_size);
  const std::string key = transfer_key(job_, options_, kv, ranks_[0].threads, device_->ops().name(),
                                       probe_pages(scratch_pools_[0]->shape));
  TransferFigures figures =
      kept_or_measured(job_, options_.cache_folder, key, [&] { return measure_figures(); });
  figures.overlaps = overlaps_exchange();
  return figures;
}

// Every rank takes part.
TransferFigures StepRunner::measure_figures() {
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  std::vector<TransferFigures> figures(ranks_.size());
  const auto heads_q = static_cast<int32_t>(rank_slice(layout_model(config_), layout_, 0).heads_q.count);
  together(job_, "measuring the exchange", [&] {
    team_->run(
        0, static_cast<int>(ranks_.size()),
        [&](int worker) {
          Rank& rank = ranks_[worker];
          rank.probe_arena = std::make_unique<Arena>(rank.device->memory());
          OpContext ctx = context_of(rank, *rank.probe_arena);
          figures[worker] = measure_transfer(ctx, rank.device->ops(), *scratch_pools_[worker], heads_q,
                                             *rank.kv, overlaps_exchange(), seconds);
          ctx.wait();
          rank.probe_arena.reset();
        },
        [&](int worker, const std::string& what) {
          for (const Rank& rank : ranks_)
            rank.kv->abort(fmt::format("rank {} failed: {}", rank_of(worker), what));
        });
    return true;
  });
  return figures[0];
}

StepRunner::~StepRunner() {
  // A rank's memory may be what another's work still reads.
  for (const Rank& rank : ranks_) {
    try {
      context_of(rank).wait();
    } catch (const std::exception&) {
      // Whoever waited for it has been told.
    }
  }
  if (!job_ || job_->rank() != 0 || lost_) return;
  try {
    orders_->send_end();
  } catch (const Error&) {
    // Whoever can't be told has nothing left to do.
  }
}

StepOutput StepRunner::run(const Batch& batch, const StepWants& wants) {
  try {
    if (orders_) orders_->send(batch, wants);
    return run_here(batch, wants);
  } catch (const std::exception& failure) {
    lost_ = true;
    if (job_) job_->abort(fmt::format("rank {} failed: {}", job_->rank(), failure.what()));
    throw Error(ErrorCode::kRankLost, fmt::format("a rank was lost: {}", failure.what()));
  }
}

void StepRunner::follow() {
  for (;;) {
    const std::optional<StepOrder> order = orders_->receive();
    if (!order) return;
    run_here(order->batch, order->wants);
  }
}

// Each pool by one rank: the one of that number, whose own it is where pools are not shared.
void StepRunner::copy_rows(const std::vector<RowCopy>& copies) {
  if (copies.empty()) return;
  team_->run(
      0, static_cast<int>(pools_.size()),
      [&](int worker) {
        const Rank& rank = ranks_[worker];
        rank.arena->settle();
        const Arena::Scope scope(*rank.arena);
        OpContext ctx = context_of(rank);
        Ops& ops = rank.device->ops();
        for (const RowCopy& copy : copies) {
          if (shard_kv_ && copy.owner != rank.cp_rank) continue;
          std::vector<int32_t> from(copy.tokens), to(copy.tokens);
          std::iota(from.begin(), from.end(), copy.from);
          std::iota(to.begin(), to.end(), copy.to);
          ops.kv_copy(ctx, *pools_[worker], from, to);
        }
        ctx.wait();  // ranks that share the pool read it on streams of their own
      },
      [](int, const std::string&) {});
}

std::shared_ptr<const StepPlan> StepRunner::make_plan(const BatchLayout& layout) const {
  return std::make_shared<const StepPlan>(plan_step(
      layout, layout_.cp,
      {.min_tokens_to_cut = options_.min_tokens_to_cut, .min_tokens_per_rank = options_.min_tokens_per_rank},
      has_wide_rank_));
}

// What the rows and pages of the next step decide, for the ranks that will run it: each for itself, or for
// those that stand still. To be called where the rank's thread has nothing to do but wait.
void StepRunner::prepare(Rank& rank, const BatchLayout& layout) {
  if (layout.rows.empty()) return;
  const std::shared_ptr<const StepPlan> plan = make_plan(layout);
  const auto prepare_for = [&](Rank& who) {
    who.prepared = {plan, who.decoder->prepare(plan->layout, plan->cp, who.cp_rank, *who.exchange)};
  };
  const bool wide = has_wide_rank_ && &rank == &ranks_.back();
  try {
    if (plan->wide == wide)
      prepare_for(rank);
    else if (wide)
      std::for_each(ranks_.begin(), ranks_.end() - 1, prepare_for);
    else if (&rank == &ranks_.front())
      prepare_for(ranks_.back());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCapacity) throw;
    spdlog::debug("the next step is not prepared: {}", error.what());  // it may never come
  }
}

// What some rank has prepared, if it is for these rows and pages.
std::shared_ptr<const StepPlan> StepRunner::take_plan(const BatchLayout& layout) {
  for (const Rank& rank : ranks_) {
    if (!rank.prepared.plan || rank.prepared.plan->layout != layout) continue;
    ++steps_prepared_;
    return rank.prepared.plan;
  }
  return make_plan(layout);
}

StepOutput StepRunner::run_here(const Batch& batch, const StepWants& wants) {
  const std::shared_ptr<const StepPlan> step = take_plan(batch);
  const CpPlan& plan = step->cp;
  copy_rows(batch.copies);
  StepOutput output;
  output.logits.resize(batch.rows.size());
  output.scores.resize(wants.score_targets.size());
  if (plan.any_cut) output.rank_tokens = plan.tokens_of_ranks();
  const int ranks = static_cast<int>(ranks_.size()) - has_wide_rank_;
  const int first = step->wide ? ranks : 0;
  try {
    team_->run(
        first, step->wide ? first + 1 : ranks,
        [&](int worker) { run_rank(ranks_[worker], batch, *step, wants, output); },
        [&](int worker, const std::string& what) {
          const std::string reason =
              fmt::format("rank {} failed: {}", step->wide ? 0 : rank_of(worker), what);
          for (const Rank& rank : ranks_)
            for (const auto* comm : {&rank.kv, &rank.attn_tp, &rank.moe})
              if (*comm) (*comm)->abort(reason);
        });
  } catch (const std::exception& failure) {
    if (job_ && options_.hccl) tell_who_is_lost(*job_, failure.what());
    throw;
  }
  if (orders_) orders_->collect(plan, wants, config_.vocab_size, output);
  return output;
}

// Ranks write disjoint parts of `output`: logits of the rows they end, scores of the tokens they own.
void StepRunner::run_rank(Rank& rank, const Batch& batch, const StepPlan& step, const StepWants& wants,
                          StepOutput& output) {
  const CpPlan& plan = step.cp;
  rank.arena->settle();  // the rank's last step has ended
  const Arena::Scope scope(*rank.arena);
  OpContext ctx = context_of(rank);
  const Decoder& decoder = *rank.decoder;
  Rank::Prepared prepared = std::exchange(rank.prepared, {});
  if (!prepared.plan || prepared.plan->layout != step.layout)
    prepared.step = decoder.prepare(step.layout, plan, rank.cp_rank, *rank.exchange);
  const Matrix hidden = decoder.forward(ctx, batch, plan, rank.cp_rank, *rank.exchange, prepared.step);
  if (rank.stream) prepare(rank, batch.next);  // the device has work

  std::vector<int32_t> sequences, rows;
  for (size_t s = 0; s < batch.rows.size(); ++s) {
    if (plan.last_token[s].rank != rank.cp_rank || !wants.logits[s]) continue;
    sequences.push_back(static_cast<int32_t>(s));
    rows.push_back(plan.last_token[s].local_row);
  }
  if (!rows.empty()) {
    const Matrix logits = decoder.logits(ctx, hidden, rows);
    const int64_t vocab = decoder.vocab_size();
    std::vector<float> all(rank.reports ? rows.size() * static_cast<size_t>(vocab) : 0);
    if (rank.reports)
      rank.device->ops().download(ctx, logits, all);  // at once: a device waits for each download
    for (size_t i = 0; rank.reports && i < rows.size(); ++i) {
      const auto begin = all.begin() + static_cast<int64_t>(i) * vocab;
      output.logits[sequences[i]].assign(begin, begin + vocab);
    }
  }

  score_rows(rank, ctx, hidden, plan, wants, output);
  ctx.wait();  // the next step may hand this one's pages to another rank
}

// Log-probabilities of the rank's own rows.
void StepRunner::score_rows(const Rank& rank, OpContext& ctx, Matrix hidden, const CpPlan& plan,
                            const StepWants& wants, StepOutput& output) const {
  if (wants.score_targets.empty()) return;
  const std::vector<int32_t>& tokens = plan.ranks[rank.cp_rank].token_index;
  std::vector<int32_t> scored_rows, targets;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (wants.score_targets[tokens[i]] < 0) continue;
    scored_rows.push_back(static_cast<int32_t>(i));
    targets.push_back(wants.score_targets[tokens[i]]);
  }
  const std::vector<float> scores = rank.decoder->score(ctx, hidden, scored_rows, targets);
  for (size_t i = 0; rank.reports && i < scores.size(); ++i)
    output.scores[tokens[scored_rows[i]]] = scores[i];
}

HardwareLimits StepRunner::measure_limits() const {
  if (job_) return {};  // what the processes reach together takes them all to measure
  const auto cores = static_cast<int>(usable_cores().size());
  return device_->measure_limits(std::min(cores, layout_.tp * ranks_[0].threads));
}

EngineInfo StepRunner::info() const {
  EngineInfo info{
      .architecture = config_.architecture_name,
      .device = device_->ops().name(),
      .ranks = layout_.tp,
      .threads_per_rank = ranks_[0].threads,
      .weight_bytes = weight_bytes_,
      .kv_bytes = 0,
      .kv_tokens = int64_t{pages_ - 1} * page_owners() * options_.page_size,
      .context_length = options_.context_length ? options_.context_length : config_.context_length,
      .page_size = options_.page_size};
  for (const auto* pools : {&pools_, &scratch_pools_})
    for (const auto& pool : *pools) info.kv_bytes += pool->bytes;
  if (job_) info.message_bytes = job_->staging_bytes();
  return info;
}

}  // namespace longspan
