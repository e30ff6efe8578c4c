#include "engine/step_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "plan/cp_plan.h"
#include "plan/layout_rules.h"

namespace longspan {
namespace {

// Cores of each rank, and of the wide rank (all) if there is one.
std::vector<std::vector<int>> share_cores(std::vector<int> cores, int32_t threads, int32_t ranks, bool wide) {
  if (threads > 0) {
    for (size_t i = 0; std::ssize(cores) < threads; ++i)
      cores.push_back(cores[i]);  // oversubscribed on request
    cores.resize(threads);
  }
  const int64_t each = std::max<int64_t>(1, std::ssize(cores) / ranks);
  std::vector<std::vector<int>> shares(ranks);
  for (int64_t i = 0; i < ranks * each; ++i) shares[i / each].push_back(cores[i % std::ssize(cores)]);
  if (wide) shares.push_back(cores);
  return shares;
}

int32_t count_pages(const EngineOptions& options, const ModelConfig& config, const Device& device,
                    int64_t weight_bytes, int64_t page_bytes, int32_t pools) {
  const int64_t budget =
      static_cast<int64_t>(options.mem_fraction * static_cast<double>(device.memory_bytes())) - weight_bytes;
  const int64_t fitting = budget / (page_bytes * pools);
  const auto pages_of = [&](int64_t tokens) { return (tokens + options.page_size - 1) / options.page_size; };
  const int64_t context = options.context_length ? options.context_length : config.context_length;
  const int64_t wanted = options.max_total_tokens ? pages_of(options.max_total_tokens)
                                                  : options.max_running_requests * pages_of(context);
  if (fitting < 2 || (options.max_total_tokens && wanted + 1 > fitting)) {
    throw Error(
        ErrorCode::kCapacity,
        fmt::format(
            "the KV pool needs {} pages of {} tokens ({} bytes each), but --mem-fraction-static {} of "
            "{} bytes leaves room for {} beside {} bytes of weights; raise the fraction, or lower "
            "the page size or the number of KV tokens",
            options.max_total_tokens ? wanted + 1 : 2, options.page_size, page_bytes * pools,
            options.mem_fraction, device.memory_bytes(), std::max<int64_t>(fitting, 0), weight_bytes));
  }
  const int64_t slots_limit = std::numeric_limits<int32_t>::max() / options.page_size;
  return static_cast<int32_t>(std::min({wanted + 1, fitting, slots_limit}));  // page 0 is never handed out
}

// The part of the process grid that this build runs: cp ranks, each with all heads and all experts.
int32_t supported_cp(const EngineOptions& options, const ModelConfig& config) {
  const Layout layout =
      make_layout(options.layout, {.heads_q = config.num_heads,
                                   .heads_kv = config.num_kv_heads,
                                   .experts = config.num_experts,
                                   .expert_width = config.moe_intermediate_size,
                                   .shared_expert_width = config.shared_expert_intermediate_size,
                                   .mlp_width = config.intermediate_size,
                                   .vocab = config.vocab_size});
  if (layout.attn_tp != 1 || layout.ep != 1 || layout.moe_tp != 1) {
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format(
            "this build runs attn_tp 1, ep 1 and moe_tp 1 only, so tp = cp = moe_dp; got tp {}, cp {}, "
            "moe_dp {}, ep {}; nearest: --tp {} --cp {}",
            layout.tp, layout.cp, layout.moe_dp, layout.ep, layout.tp, layout.tp));
  }
  return layout.cp;
}

}  // namespace

StepRunner::StepRunner(const EngineOptions& options, const ModelConfig& config, Checkpoint checkpoint,
                       std::unique_ptr<Device> device)
    : options_(options),
      config_(config),
      checkpoint_(std::move(checkpoint)),
      cp_(supported_cp(options, config)),
      device_(std::move(device)),
      has_wide_rank_(cp_ > 1 && options.share_kv) {
  const std::vector<int> cores = usable_cores();
  const auto shares = share_cores(cores, options.threads, cp_, has_wide_rank_);
  const bool oversubscribed =
      std::ssize(shares[0]) * cp_ > std::ssize(cores) || options.threads > std::ssize(cores);
  team_ = std::make_unique<RankTeam>(shares, /*pin=*/!oversubscribed);

  Ops& ops = device_->ops();
  weights_ = load_weights(config, checkpoint_, ops);
  decoder_ = std::make_unique<Decoder>(config, weights_, ops);

  KvShape shape{.layers = config.num_layers,
                .pages = 0,
                .page_size = options.page_size,
                .heads_k = config.num_kv_heads,
                .dim_k = config.head_dim,
                .heads_v = config.num_kv_heads,
                .dim_v = config.head_dim};
  const int32_t pools = options.share_kv ? 1 : cp_;
  pages_ = count_pages(options, config, *device_, weights_.bytes, ops.kv_page_bytes(shape), pools);
  shape.pages = pages_;
  for (int32_t i = 0; i < pools; ++i) pools_.push_back(ops.make_kv_pool(shape));

  if (cp_ > 1) {
    cp_group_ = make_threads_group(
        cp_, std::chrono::milliseconds(static_cast<int64_t>(options.comm_timeout_s * 1e3)));
  }
  for (size_t i = 0; i < shares.size(); ++i) {
    Communicator* comm = i < cp_group_.size() ? cp_group_[i].get() : nullptr;
    Rank rank{.arena = std::make_unique<Arena>(device_->memory()),
              .exchange = options.share_kv || !comm ? make_shared_pool_exchange(ops, *pools_[0], comm)
                                                    : make_merged_gather_exchange(ops, *pools_[i], *comm),
              .threads = static_cast<int>(shares[i].size())};
    ranks_.push_back(std::move(rank));
  }
}

StepRunner::~StepRunner() = default;

StepOutput StepRunner::run(const Batch& batch, const StepWants& wants) {
  CpPlan plan = plan_context_parallel(batch.rows, cp_, {.min_tokens_to_cut = options_.min_tokens_to_cut});
  const bool wide = has_wide_rank_ && !plan.any_cut;
  if (wide) plan = plan_context_parallel(batch.rows, 1, {});

  StepOutput output;
  output.logits.resize(batch.rows.size());
  output.scores.resize(wants.score_targets.size());
  const int first = wide ? cp_ : 0;
  std::string lost;
  try {
    team_->run(
        first, wide ? cp_ + 1 : cp_,
        [&](int worker) { run_rank(ranks_[worker], batch, plan, worker - first, wants, output); },
        [&](int worker, const std::string& what) {
          for (const auto& comm : cp_group_)
            comm->abort(fmt::format("rank {} failed: {}", worker - first, what));
        });
  } catch (const std::exception& failure) {
    throw Error(ErrorCode::kRankLost, fmt::format("a rank was lost: {}", failure.what()));
  }
  return output;
}

// Ranks write disjoint parts of `output`: logits of the rows they end, scores of the tokens they own.
void StepRunner::run_rank(const Rank& rank, const Batch& batch, const CpPlan& plan, int32_t plan_rank,
                          const StepWants& wants, StepOutput& output) const {
  const Arena::Scope scope(*rank.arena);
  OpContext ctx{.arena = *rank.arena, .threads = rank.threads};
  const Matrix hidden = decoder_->forward(ctx, batch, plan, plan_rank, *rank.exchange);

  std::vector<int32_t> sequences, rows;
  for (size_t s = 0; s < batch.rows.size(); ++s) {
    if (plan.last_token[s].rank != plan_rank || !wants.logits[s]) continue;
    sequences.push_back(static_cast<int32_t>(s));
    rows.push_back(plan.last_token[s].local_row);
  }
  if (!rows.empty()) {
    const Matrix logits = decoder_->logits(ctx, hidden, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::vector<float>& row = output.logits[sequences[i]];
      row.resize(decoder_->vocab_size());
      device_->ops().download(ctx, logits.slice_rows(static_cast<int64_t>(i), 1), row);
    }
  }

  if (wants.score_targets.empty()) return;
  const std::vector<int32_t>& tokens = plan.ranks[plan_rank].token_index;
  std::vector<int32_t> scored_rows, targets;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (wants.score_targets[tokens[i]] < 0) continue;
    scored_rows.push_back(static_cast<int32_t>(i));
    targets.push_back(wants.score_targets[tokens[i]]);
  }
  const std::vector<float> scores = decoder_->score(ctx, hidden, scored_rows, targets);
  for (size_t i = 0; i < scores.size(); ++i) output.scores[tokens[scored_rows[i]]] = scores[i];
}

HardwareLimits StepRunner::measure_limits() const {
  const auto cores = static_cast<int>(usable_cores().size());
  return device_->measure_limits(std::min(cores, cp_ * ranks_[0].threads));
}

EngineInfo StepRunner::info() const {
  EngineInfo info{
      .architecture = config_.architecture_name,
      .device = device_->ops().name(),
      .ranks = cp_,
      .threads_per_rank = ranks_[0].threads,
      .weight_bytes = weights_.bytes,
      .kv_bytes = 0,
      .kv_tokens = int64_t{pages_ - 1} * options_.page_size,
      .context_length = options_.context_length ? options_.context_length : config_.context_length,
      .page_size = options_.page_size};
  for (const auto& pool : pools_) info.kv_bytes += pool->bytes;
  return info;
}

}  // namespace longspan
