#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace longspan {

// What every layer of one rank's step shares.
struct StepIndex {
  KvSlots slots;
  BlockTable block_table;
  std::span<const Segment> segments;
  Matrix cos_sin;
};

namespace {

constexpr int64_t kScoreRows = 256;

}  // namespace

Decoder::Decoder(const ModelConfig& config, const ModelWeights& weights, Ops& ops)
    : config_(config),
      weights_(weights),
      ops_(ops),
      rope_(make_rope(config.rope, config.head_dim, config.context_length)) {}

Matrix Decoder::forward(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t rank,
                        KvExchange& kv) const {
  const RankPlan& mine = plan.ranks[rank];
  const int64_t rows = std::ssize(mine.token_index);
  const float eps = static_cast<float>(config_.rms_norm_eps);

  StepIndex step{.slots = make_kv_slots(ctx, ops_, batch, plan, rank, kv.gathers()),
                 .block_table = {.entries = ops_.upload(ctx, batch.block_table),
                                 .rows = static_cast<int32_t>(batch.rows.size()),
                                 .max_pages = batch.max_pages},
                 .segments = mine.segments,
                 .cos_sin = ctx.arena.matrix(rows, config_.head_dim)};
  std::vector<int32_t> ids(rows);
  std::transform(mine.token_index.begin(), mine.token_index.end(), ids.begin(),
                 [&](int32_t token) { return batch.token_ids[token]; });

  const Matrix x = ctx.arena.matrix(rows, config_.hidden_size);
  if (rows > 0) {
    ops_.rope_table(ctx, ops_.upload(ctx, mine.position), rope_.inv_freq, rope_.factor, step.cos_sin);
    ops_.embedding(ctx, ops_.upload(ctx, ids), weights_.embedding, x);
  }
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& layer = weights_.layers[i];
    const Arena::Scope scope(ctx.arena);
    attention_layer(ctx, layer, i, x, step, kv);
    if (rows == 0) continue;
    const Matrix normed = ctx.arena.matrix(rows, config_.hidden_size);
    ops_.rms_norm(ctx, x, layer.post_attention_norm.data(), eps, normed);
    if (layer.moe) {
      moe(ctx, *layer.moe, normed, x);
    } else {
      mlp(ctx, *layer.mlp, normed, x, /*accumulate=*/true);
    }
  }
  return x;
}

// x += o_proj(attention(norm(x))).
void Decoder::attention_layer(OpContext& ctx, const LayerWeights& layer, int32_t index, Matrix x,
                              const StepIndex& step, KvExchange& kv) const {
  const Arena::Scope scope(ctx.arena);
  const int32_t dim = config_.head_dim;
  const int64_t q_cols = int64_t{config_.num_heads} * dim;
  const int64_t k_cols = int64_t{config_.num_kv_heads} * dim;
  const float eps = static_cast<float>(config_.rms_norm_eps);

  const Matrix qkv = ctx.arena.matrix(x.rows, q_cols + 2 * k_cols);
  const Matrix q = qkv.slice_cols(0, q_cols);
  const Matrix k = qkv.slice_cols(q_cols, k_cols);
  if (x.rows > 0) {
    const Arena::Scope norm_scope(ctx.arena);
    const Matrix normed = ctx.arena.matrix(x.rows, x.cols);
    ops_.rms_norm(ctx, x, layer.input_norm.data(), eps, normed);
    ops_.linear(ctx, normed, *layer.qkv, qkv, /*accumulate=*/false);
    const auto weight = [](const std::vector<float>& norm) { return norm.empty() ? nullptr : norm.data(); };
    ops_.qk_norm_rope(ctx, {.x = k,
                            .heads = config_.num_kv_heads,
                            .head_dim = dim,
                            .norm_weight = weight(layer.k_norm),
                            .eps = eps,
                            .cos_sin = step.cos_sin});
    ops_.qk_norm_rope(ctx, {.x = q,
                            .heads = config_.num_heads,
                            .head_dim = dim,
                            .norm_weight = weight(layer.q_norm),
                            .eps = eps,
                            .cos_sin = step.cos_sin});
  }
  kv.exchange(ctx, index, qkv.slice_cols(q_cols, 2 * k_cols), step.slots);
  if (x.rows == 0) return;

  const Matrix out = ctx.arena.matrix(x.rows, q_cols);
  ops_.attention(ctx, {.q = q,
                       .pool = &kv.pool(),
                       .layer = index,
                       .segments = step.segments,
                       .block_table = step.block_table,
                       .heads_q = config_.num_heads,
                       .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                       .out = out});
  ops_.linear(ctx, out, *layer.o, x, /*accumulate=*/true);
}

void Decoder::mlp(OpContext& ctx, const MlpWeights& weights, Matrix x, Matrix out, bool accumulate) const {
  const Arena::Scope scope(ctx.arena);
  const Matrix gate_up = ctx.arena.matrix(x.rows, 2 * weights.width);
  const Matrix activated = ctx.arena.matrix(x.rows, weights.width);
  ops_.linear(ctx, x, *weights.gate_up, gate_up, /*accumulate=*/false);
  ops_.swiglu(ctx, gate_up, activated);
  ops_.linear(ctx, activated, *weights.down, out, accumulate);
}

// out += the routed experts of x, then the shared expert where there is one.
void Decoder::moe(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const {
  const Arena::Scope scope(ctx.arena);
  const Matrix logits = ctx.arena.matrix(x.rows, config_.num_experts);
  const Matrix ids = ctx.arena.matrix(x.rows, config_.num_experts_per_tok, DType::kI32);
  const Matrix expert_weights = ctx.arena.matrix(x.rows, config_.num_experts_per_tok);
  ops_.linear(ctx, x, *weights.router, logits, /*accumulate=*/false);
  ops_.moe_route(ctx, logits, config_.norm_topk_prob, ids, expert_weights);
  ops_.moe_experts(ctx, x, ids, expert_weights, *weights.experts, out);
  if (!weights.shared) return;
  const Matrix shared = ctx.arena.matrix(x.rows, x.cols);
  const Matrix gate = ctx.arena.matrix(x.rows, 1);
  mlp(ctx, *weights.shared, x, shared, /*accumulate=*/false);
  ops_.linear(ctx, x, *weights.shared_gate, gate, /*accumulate=*/false);
  ops_.add_gated(ctx, gate, shared, out);
}

Matrix Decoder::logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const {
  const int64_t count = std::ssize(rows);
  const Matrix logits = ctx.arena.matrix(count, config_.vocab_size);
  const Arena::Scope scope(ctx.arena);
  const Matrix picked = ctx.arena.matrix(count, config_.hidden_size);
  ops_.gather_rows(ctx, hidden, ops_.upload(ctx, rows), picked);
  ops_.rms_norm(ctx, picked, weights_.final_norm.data(), static_cast<float>(config_.rms_norm_eps), picked);
  ops_.linear(ctx, picked, *weights_.lm_head, logits, /*accumulate=*/false);
  return logits;
}

std::vector<float> Decoder::score(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                                  std::span<const int32_t> targets) const {
  check(rows.size() == targets.size(), "one target per scored row");
  std::vector<float> result(rows.size());
  for (size_t begin = 0; begin < rows.size(); begin += kScoreRows) {
    const Arena::Scope scope(ctx.arena);
    const size_t count = std::min<size_t>(kScoreRows, rows.size() - begin);
    const Matrix block = logits(ctx, hidden, rows.subspan(begin, count));
    const Matrix scores = ctx.arena.matrix(block.rows, 1);
    ops_.log_softmax_at(ctx, block, ops_.upload(ctx, targets.subspan(begin, count)), scores);
    ops_.download(ctx, scores, std::span(result).subspan(begin, count));
  }
  return result;
}

}  // namespace longspan
