#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/json_out.h"
#include "cli/model_cost.h"
#include "device/engine_device.h"
#include "model/exchange_rules.h"
#include "model/layout_model.h"
#include "model/message_memory.h"
#include "model/shard_shape.h"
#include "plan/cp_plan.h"
#include "plan/plan_text.h"
#include "plan/transfer_cost.h"

namespace longspan::cli {
namespace {

constexpr int32_t kWidth = 100;  // columns

struct Prediction {
  ModelConfig config;
  std::string comm;
  bool runs = true;    // in this build
  bool apart = false;  // ranks share no memory: a process of this machine, or a card, for each
  bool wide = false;   // steps of few tokens run as one rank on all cores
  Layout layout;
  std::string device;
  std::vector<RankBytes> ranks;
  ProcessBytes process;
  int64_t budget = 0;          // bytes for weights and KV
  int32_t owners = 1;          // ranks that each keep some of the KV pages
  int64_t workspace = 0;       // bytes that sharded KV takes beside its pages
  int64_t messages = 0;        // bytes that a process of a job keeps for messages
  double keys_share = 0;       // share_from_which_keys_travel
  int64_t fitting_tokens = 0;  // of KV; negative: not even the weights fit
  std::vector<BatchRow> rows;
  CpPlan plan;
  PlanCost cost;
};

std::vector<BatchRow> rows_of(const PlanOptions& options, const ModelConfig& config, int64_t context_limit) {
  const int64_t context =
      context_limit > 0 ? std::min(context_limit, config.context_length) : config.context_length;
  std::vector<int64_t> lengths = options.lengths;
  if (lengths.empty()) {
    lengths = {std::min<int64_t>(4096, context), std::min<int64_t>(131072, context)};
  }
  std::vector<BatchRow> rows;
  for (const int64_t length : lengths) {
    if (length > context) {
      throw Error(ErrorCode::kUsage, fmt::format("--lengths {}: over the context of {} tokens; nearest: {}",
                                                 length, context, context));
    }
    rows.push_back({.new_tokens = static_cast<int32_t>(length), .prefix_len = 0});
  }
  return rows;
}

// The process of a job that holds the most; all of them have as many pages.
ProcessBytes largest_rank(const std::vector<RankBytes>& ranks) {
  ProcessBytes most{.weights = 0, .kv_per_token = 0, .kv_pools = 1};
  for (const RankBytes& rank : ranks) {
    most.weights = std::max(most.weights, rank.weights);
    most.kv_per_token = std::max(most.kv_per_token, rank.kv_per_token);
  }
  return most;
}

void predict_shards(Prediction& p, const EngineOptions& engine, const Ops& ops) {
  const ShardWorkspaceShape shape = shard_workspace_shape(engine, p.config, p.layout, ops);
  const KvShape pool = kv_pool_shape(p.config, p.layout, engine.page_size);
  p.owners = p.layout.cp;
  p.workspace = p.process.kv_pools * shard_workspace_bytes(shape, pool, ops);
  p.keys_share = share_from_which_keys_travel(
      {shape.heads_q, shape.heads_kv, shape.dim_k, shape.dim_v, shape.kv_bytes, shape.query_bytes});
}

Prediction predict(const CommonOptions& common, const PlanOptions& options) {
  const EngineOptions& engine = common.engine;
  Prediction p;
  p.comm = common.comm;
  p.runs = !common.in_job || built_with_mpi();
  p.apart = p.comm != "threads";
  p.config = load_model_config(engine.model);
  p.layout = make_layout(engine.layout, layout_model(p.config));
  p.rows = rows_of(options, p.config, engine.context_length);

  const auto device = make_device(engine, p.config.dtype);
  const Ops& ops = device->ops();
  p.device = ops.name();
  const bool sharded = engine.shard_kv && p.layout.cp > 1;
  const bool share_kv = engine.share_kv && !p.apart && !sharded;
  check_exchange(engine, p.layout, p.config, share_kv, *device);
  p.ranks = rank_bytes(p.config, p.layout, engine.page_size, share_kv, ops);
  p.process =
      p.apart ? largest_rank(p.ranks) : process_bytes(p.config, p.layout, engine.page_size, share_kv, ops);
  if (sharded) predict_shards(p, engine, ops);
  if (p.comm == "mpi") p.messages = message_bytes(engine, p.config, p.layout, ops);
  const int64_t memory = device->memory_bytes() / (p.comm == "mpi" ? p.layout.tp : 1);
  p.budget = static_cast<int64_t>(engine.mem_fraction * static_cast<double>(memory));
  const int64_t page_bytes = p.process.kv_per_token * engine.page_size;
  const int64_t room = p.budget - p.process.weights - p.workspace - p.messages;
  const int64_t pages = room / page_bytes - 1;  // page 0 is never handed out
  p.fitting_tokens = room < 0 ? -1 : std::max<int64_t>(pages, 0) * p.owners * engine.page_size;

  p.wide = p.layout.cp > 1 && share_kv && has_whole_ranks(p.layout, layout_model(p.config));
  p.plan = plan_context_parallel(p.rows, p.layout.cp,
                                 {.min_tokens_to_cut = engine.min_tokens_to_cut,
                                  .min_tokens_per_rank = p.wide ? engine.min_tokens_per_rank : 0});
  p.cost = plan_cost(p.plan, cost_shape(p.config, p.layout));
  return p;
}

void print_layout(const Prediction& p, std::ostream& out) {
  const Layout& l = p.layout;
  out << fmt::format("{}: {} layers, {} heads, {} kv heads, {} experts, context {}\n",
                     p.config.architecture_name, p.config.num_layers, p.config.num_heads,
                     p.config.num_kv_heads, p.config.num_experts, p.config.context_length);
  out << fmt::format("layout: legal: tp {} = cp {} x attn_tp {}", l.tp, l.cp, l.attn_tp);
  if (p.config.num_experts > 0)
    out << fmt::format(" = moe_dp {} x ep {} x moe_tp {}", l.moe_dp, l.ep, l.moe_tp);
  out << "\n";
  out << fmt::format("\n{:>4} {:>4} {:>8} {:>7} {:>4} {:>7} {:>8} {:>9} {:>8} {:>13} {:>14}\n", "rank", "cp",
                     "attn_tp", "moe_dp", "ep", "moe_tp", "q heads", "kv heads", "experts", "weights",
                     "KV per token");
  for (int32_t rank = 0; rank < l.tp; ++rank) {
    const RankCoordinates at = l.coordinates(rank);
    const RankSlice slice = rank_slice(layout_model(p.config), l, rank);
    const RankBytes& bytes = p.ranks[static_cast<size_t>(rank)];
    out << fmt::format("{:>4} {:>4} {:>8} {:>7} {:>4} {:>7} {:>8} {:>9} {:>8} {:>13} {:>14}\n", rank,
                       at.cp_rank, at.attn_tp_rank, at.moe_dp_rank, at.ep_rank, at.moe_tp_rank,
                       slice.heads_q.count, slice.heads_kv.count, slice.experts.count,
                       bytes_text(bytes.weights), bytes_text(bytes.kv_per_token));
  }
}

const char* exchange_text(ShardExchange exchange) {
  return exchange == ShardExchange::kAuto
             ? "gather-kv, ring or gather-q, chosen step by step from a start-up probe"
             : to_string(exchange);
}

void print_memory(const Prediction& p, const EngineOptions& engine, std::ostream& out) {
  out << fmt::format("\npredicted, {} on {}:\n",
                     p.comm == "mpi"    ? "each of the processes, all on this machine,"
                     : p.comm == "hccl" ? "each of the cards,"
                                        : "all ranks in one process",
                     p.device);
  out << fmt::format("  weights {}, {}\n", bytes_text(p.process.weights),
                     p.apart ? "of the rank with the most" : "each slice once");
  out << fmt::format("  KV {} per token in {} pool{}, pages of {} tokens\n",
                     bytes_text(p.process.kv_per_token / p.owners), p.process.kv_pools,
                     p.process.kv_pools == 1 ? "" : "s", engine.page_size);
  if (p.owners > 1) {
    out << fmt::format("  each page on one of {} cp ranks, {} for what travels and is merged\n", p.owners,
                       bytes_text(p.workspace));
    out << fmt::format(
        "  earlier tokens meet by {}; fewer bytes travel as keys where {:.0f} % of a prompt's "
        "tokens or more are new, else as queries\n",
        exchange_text(engine.shard_exchange), 100 * p.keys_share);
  }
  if (p.messages > 0)
    out << fmt::format("  {} at most for messages to and from the others\n", bytes_text(p.messages));
  out << fmt::format("  memory {} (--mem-fraction-static {}): ", bytes_text(p.budget), engine.mem_fraction);
  if (p.fitting_tokens < 0) {
    out << (p.workspace + p.messages > 0 ? "the weights and what travels alone don't fit\n"
                                         : "the weights alone don't fit\n");
  } else {
    out << fmt::format("{} KV tokens fit\n", p.fitting_tokens);
  }
}

void print_plan(const Prediction& p, const EngineOptions& engine, std::ostream& out) {
  out << "\none step with " << p.rows.size() << (p.rows.size() == 1 ? " prompt" : " prompts");
  int64_t tokens = 0;
  for (const BatchRow& row : p.rows) tokens += row.new_tokens;
  if (engine.chunked_prefill_size > 0 && tokens > engine.chunked_prefill_size) {
    out << fmt::format(" (run in steps of at most {} new tokens, each cut the same way)",
                       engine.chunked_prefill_size);
  }
  if (p.wide && tokens < int64_t{engine.min_tokens_per_rank} * p.layout.cp) {
    out << fmt::format(
        " (fewer than {} new tokens for each rank, --min-tokens-per-rank: all cores take it as one)",
        engine.min_tokens_per_rank);
  }
  out << ":\n\n" << draw_plan(p.rows, p.plan, p.cost, kWidth);
}

std::string layout_json(const Layout& l) {
  return JsonObject()
      .set("tp", l.tp)
      .set("attn_dp", l.attn_dp)
      .set("cp", l.cp)
      .set("attn_tp", l.attn_tp)
      .set("moe_dp", l.moe_dp)
      .set("ep", l.ep)
      .set("moe_tp", l.moe_tp)
      .str();
}

std::string ranks_json(const Prediction& p) {
  std::vector<std::string> ranks;
  for (int32_t rank = 0; rank < p.layout.tp; ++rank) {
    const RankCoordinates at = p.layout.coordinates(rank);
    const RankSlice slice = rank_slice(layout_model(p.config), p.layout, rank);
    const RankBytes& bytes = p.ranks[static_cast<size_t>(rank)];
    const auto cp_rank = static_cast<size_t>(at.cp_rank);
    const RankPlan& plan = p.plan.ranks[cp_rank];
    std::vector<std::string> owned;
    for (const Segment& segment : plan.segments) {
      owned.push_back(JsonObject()
                          .set("sequence", segment.block_table_row)
                          .set("begin", segment.kv_len - segment.q_len)
                          .set("end", segment.kv_len)
                          .str());
    }
    ranks.push_back(JsonObject()
                        .set("rank", rank)
                        .set("cp_rank", at.cp_rank)
                        .set("attn_tp_rank", at.attn_tp_rank)
                        .set("moe_dp_rank", at.moe_dp_rank)
                        .set("ep_rank", at.ep_rank)
                        .set("moe_tp_rank", at.moe_tp_rank)
                        .set("heads_q", slice.heads_q.count)
                        .set("heads_kv", slice.heads_kv.count)
                        .set("experts", slice.experts.count)
                        .set("weight_bytes", bytes.weights)
                        .set("kv_bytes_per_token", bytes.kv_per_token)
                        .set("message_bytes", p.messages)
                        .set("tokens", plan.token_index.size())
                        .set("causal_work", plan.causal_work)
                        .set("flops", p.cost.ranks[cp_rank].total())
                        .set_json("owns", json_array(owned))
                        .str());
  }
  return json_array(ranks);
}

std::string plan_json(const Prediction& p, const std::string& exchange) {
  std::vector<std::string> lengths;
  for (const BatchRow& row : p.rows) lengths.push_back(std::to_string(row.new_tokens));
  return JsonObject()
      .set("architecture", p.config.architecture_name)
      .set("legal", true)
      .set("runs_in_this_build", p.runs)
      .set_json("layout", layout_json(p.layout))
      .set("device", p.device)
      .set("predicted", true)
      .set("comm", p.comm)
      .set("weight_bytes", p.process.weights)
      .set("kv_bytes_per_token", p.process.kv_per_token / p.owners)
      .set("kv_pools", p.process.kv_pools)
      .set("kv", p.owners > 1 ? "shard" : "replicate")
      .set("kv_exchange", exchange)
      .set("kv_owners", p.owners)
      .set("workspace_bytes", p.workspace)
      .set("message_bytes", p.messages)
      .set("memory_bytes", p.budget)
      .set("weights_fit", p.fitting_tokens >= 0)
      .set("kv_tokens", std::max<int64_t>(p.fitting_tokens, 0))
      .set_json("lengths", json_array(lengths))
      .set("flops", p.cost.total_flops)
      .set("imbalance", p.cost.imbalance)
      .set_json("ranks", ranks_json(p))
      .str();
}

}  // namespace

int run_plan(const CommonOptions& common, const PlanOptions& options, Context& context) {
  const Prediction prediction = predict(common, options);
  if (common.json) {
    context.out << plan_json(prediction, common.kv_exchange) << std::endl;
    return kExitOk;
  }
  print_layout(prediction, context.out);
  print_memory(prediction, common.engine, context.out);
  print_plan(prediction, common.engine, context.out);
  context.out << std::flush;
  return kExitOk;
}

}  // namespace longspan::cli
