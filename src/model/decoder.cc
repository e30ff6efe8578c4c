#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/mlp_layer.h"
#include "model/travel.h"

namespace longspan {

namespace {

constexpr int64_t kScoreRows = 256;

}  // namespace

Decoder::Decoder(const ModelConfig& config, ModelWeights weights, const RankGroups& groups, Ops& ops)
    : config_(config),
      weights_(std::move(weights)),
      attn_tp_(groups.attn_tp),
      ops_(ops),
      moe_(config, groups.moe, ops),
      rope_(make_rope(config.rope, config.head_dim, config.context_length)) {}

PreparedStep Decoder::prepare(const BatchLayout& batch, const CpPlan& plan, int32_t cp_rank,
                              const KvExchange& kv) const {
  return {ops_.rope_rows(plan.ranks[cp_rank].position, rope_.inv_freq, rope_.factor),
          kv.prepare(batch, plan, cp_rank)};
}

Matrix Decoder::forward(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t cp_rank,
                        KvExchange& kv, const PreparedStep& prepared) const {
  const RankPlan& mine = plan.ranks[cp_rank];
  const int64_t rows = std::ssize(mine.token_index);
  const float eps = static_cast<float>(config_.rms_norm_eps);

  kv.begin_step(ctx, *prepared.kv);
  const Matrix cos_sin = ctx.arena.matrix(rows, ops_.rope_cols(config_.head_dim));
  std::vector<int32_t> ids(rows);
  std::transform(mine.token_index.begin(), mine.token_index.end(), ids.begin(),
                 [&](int32_t token) { return batch.token_ids[token]; });

  const Matrix x = ctx.arena.matrix(rows, config_.hidden_size);
  if (rows > 0) {
    if (prepared.rope.data)
      ops_.upload_rope(ctx, prepared.rope, cos_sin);
    else
      ops_.rope_table(ctx, ops_.upload(ctx, mine.position), rope_.inv_freq, rope_.factor, cos_sin);
    ops_.embedding(ctx, ops_.upload(ctx, ids), *weights_.embedding, x);
  }
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& layer = weights_.layers[i];
    const Arena::Scope scope(ctx.arena);
    attention_layer(ctx, layer, i, x, cos_sin, kv);
    if (rows == 0 && !(layer.moe && moe_.meets_others())) continue;
    const Matrix normed = ctx.arena.matrix(rows, config_.hidden_size);
    if (rows > 0) ops_.rms_norm(ctx, x, layer.post_attention_norm.get(), eps, normed);
    if (layer.moe) {
      moe_.forward(ctx, *layer.moe, plan, normed, x);
    } else if (attn_tp_) {
      const Matrix partial = ctx.arena.matrix(rows, config_.hidden_size);
      mlp_layer(ops_, ctx, *layer.mlp, normed, partial, /*accumulate=*/false);
      add_reduced(ctx, *attn_tp_, partial, x, "mlp");
    } else {
      mlp_layer(ops_, ctx, *layer.mlp, normed, x, /*accumulate=*/true);
    }
  }
  return x;
}

// norm(x) as multiplies take it; nothing where the device wants it some rows at a time.
Matrix Decoder::norm_whole(OpContext& ctx, const LayerWeights& layer, Matrix x) const {
  if (x.rows == 0 || ops_.norm_rows() < x.rows) return {};
  const DType inner = ops_.inner_dtype();
  const Matrix result = ctx.arena.matrix(x.rows, x.cols, inner);
  const Arena::Scope scope(ctx.arena);
  const Matrix normed = inner == DType::kF32 ? result : ctx.arena.matrix(x.rows, x.cols);
  ops_.rms_norm(ctx, x, layer.input_norm.get(), static_cast<float>(config_.rms_norm_eps), normed);
  if (inner != DType::kF32) ops_.convert(ctx, normed, result);
  return result;
}

// out = weights of norm(x), some rows at a time where it is not there yet.
void Decoder::project(OpContext& ctx, const LayerWeights& layer, const LinearWeight& weights, Matrix x,
                      Matrix normed_x, Matrix out) const {
  if (x.rows == 0) return;
  if (normed_x.data) return ops_.linear(ctx, normed_x, weights, out, /*accumulate=*/false);
  const Arena::Scope scope(ctx.arena);
  const int64_t most = std::min(x.rows, ops_.norm_rows());
  const Matrix block = ctx.arena.matrix(most, x.cols);
  for (int64_t begin = 0; begin < x.rows; begin += most) {
    const int64_t rows = std::min(most, x.rows - begin);
    const Matrix normed = block.slice_rows(0, rows);
    ops_.rms_norm(ctx, x.slice_rows(begin, rows), layer.input_norm.get(),
                  static_cast<float>(config_.rms_norm_eps), normed);
    ops_.linear(ctx, normed, weights, out.slice_rows(begin, rows), /*accumulate=*/false);
  }
}

// x += o_proj(attention(norm(x))). Keys and values come first: their rows may travel while q is computed.
void Decoder::attention_layer(OpContext& ctx, const LayerWeights& layer, int32_t index, Matrix x,
                              Matrix cos_sin, KvExchange& kv) const {
  const Arena::Scope scope(ctx.arena);
  const int32_t dim = config_.head_dim;
  const auto heads_q = static_cast<int32_t>(weights_.slice.heads_q.count);
  const auto heads_kv = static_cast<int32_t>(weights_.slice.heads_kv.count);
  const int64_t q_cols = int64_t{heads_q} * dim;
  const int64_t k_cols = int64_t{heads_kv} * dim;
  const float eps = static_cast<float>(config_.rms_norm_eps);

  const DType inner = ops_.inner_dtype();
  // Rows that travel lie apart, without gaps.
  const bool apart = layer.kv || ops_.separates_qkv();
  const Matrix qkv = layer.kv ? Matrix{} : ctx.arena.matrix(x.rows, q_cols + 2 * k_cols, inner);
  const Matrix q = apart ? ctx.arena.matrix(x.rows, q_cols, inner) : qkv.slice_cols(0, q_cols);
  const Matrix k_and_v =
      apart ? ctx.arena.matrix(x.rows, 2 * k_cols, inner) : qkv.slice_cols(q_cols, 2 * k_cols);
  {
    const Arena::Scope travel_scope(ctx.arena);
    const Matrix normed = norm_whole(ctx, layer, x);
    const auto turn = [&](Matrix rows, int32_t heads, const float* weight) {
      if (x.rows == 0) return;
      ops_.qk_norm_rope(ctx, {.x = rows,
                              .heads = heads,
                              .head_dim = dim,
                              .norm_weight = weight,
                              .eps = eps,
                              .cos_sin = cos_sin});
    };
    if (layer.kv) {
      project(ctx, layer, *layer.kv, x, normed, k_and_v);
      turn(k_and_v.slice_cols(0, k_cols), heads_kv, layer.k_norm.get());
      kv.start(ctx, index, k_and_v);
      project(ctx, layer, *layer.q, x, normed, q);
      turn(q, heads_q, layer.q_norm.get());
    } else {
      project(ctx, layer, *layer.qkv, x, normed, qkv);
      if (x.rows > 0)
        ops_.qkv_norm_rope(ctx, {.qkv = qkv,
                                 .heads_q = heads_q,
                                 .heads_kv = heads_kv,
                                 .head_dim = dim,
                                 .q_norm = layer.q_norm.get(),
                                 .k_norm = layer.k_norm.get(),
                                 .heads_norm = layer.heads_norm.get(),
                                 .eps = eps,
                                 .cos_sin = cos_sin,
                                 .q = q,
                                 .kv = k_and_v});
      kv.start(ctx, index, k_and_v);
    }
    kv.finish(ctx);
  }
  // One activation of q's size less, or on such a device one that attention can write as it lies.
  const Matrix out = inner == DType::kF32 ? q : ctx.arena.matrix(x.rows, q_cols, inner);
  kv.attend(ctx,
            {.q = q, .heads_q = heads_q, .scale = 1.0f / std::sqrt(static_cast<float>(dim)), .out = out});
  if (x.rows == 0) return;
  if (!attn_tp_) {
    ops_.linear(ctx, out, *layer.o, x, /*accumulate=*/true);
    return;
  }
  const Matrix partial = ctx.arena.matrix(x.rows, x.cols);
  ops_.linear(ctx, out, *layer.o, partial, /*accumulate=*/false);
  add_reduced(ctx, *attn_tp_, partial, x, "o_proj");
}

// out += the sum of all ranks' `partial`, the same bits on every rank.
void Decoder::add_reduced(OpContext& ctx, Communicator& group, Matrix partial, Matrix out,
                          const char* tag) const {
  group.all_reduce(floats_of(partial), tag);
  ops_.add(ctx, partial, out);
}

// Final norm and the rank's columns of lm_head.
Matrix Decoder::shard_logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const {
  const int64_t count = std::ssize(rows);
  const Matrix logits = ctx.arena.matrix(count, weights_.slice.vocab.count);
  const Arena::Scope scope(ctx.arena);
  const Matrix picked = ctx.arena.matrix(count, config_.hidden_size);
  ops_.gather_rows(ctx, hidden, ops_.upload(ctx, rows), picked);
  ops_.rms_norm(ctx, picked, weights_.final_norm.get(), static_cast<float>(config_.rms_norm_eps), picked);
  ops_.linear(ctx, picked, *weights_.lm_head, logits, /*accumulate=*/false);
  return logits;
}

Matrix Decoder::logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const {
  if (!attn_tp_) return shard_logits(ctx, hidden, rows);
  Communicator& group = *attn_tp_;
  const int64_t count = std::ssize(rows);
  const Matrix logits = ctx.arena.matrix(count, config_.vocab_size);
  const Arena::Scope scope(ctx.arena);
  const Matrix shard = shard_logits(ctx, hidden, rows);
  const Matrix shards = ctx.arena.matrix(count, config_.vocab_size);  // one after the other
  std::vector<int64_t> recv_bytes;
  for (int32_t r = 0; r < group.size(); ++r)
    recv_bytes.push_back(count * even_part(config_.vocab_size, group.size(), r).count *
                         int64_t{sizeof(float)});
  group.all_gather_v(bytes_of(shard), bytes_of(shards), recv_bytes, "logits");
  for (int32_t r = 0; r < group.size(); ++r) {
    const SliceRange part = even_part(config_.vocab_size, group.size(), r);
    const Matrix from{.data = shards.f32(0) + count * part.begin,
                      .rows = count,
                      .cols = part.count,
                      .row_stride = part.count};
    ops_.convert(ctx, from, logits.slice_cols(part.begin, part.count));
  }
  return logits;
}

std::vector<float> Decoder::score(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                                  std::span<const int32_t> targets) const {
  check(rows.size() == targets.size(), "one target per scored row");
  std::vector<float> result(rows.size());
  for (size_t begin = 0; begin < rows.size(); begin += kScoreRows) {
    const Arena::Scope scope(ctx.arena);
    const size_t count = std::min<size_t>(kScoreRows, rows.size() - begin);
    score_block(ctx, hidden, rows.subspan(begin, count), targets.subspan(begin, count),
                std::span(result).subspan(begin, count));
  }
  return result;
}

// With the vocabulary split, each shard knows its own log-sum-exp, and one of them the target's logit.
void Decoder::score_block(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                          std::span<const int32_t> targets, std::span<float> result) const {
  const Matrix block = shard_logits(ctx, hidden, rows);
  const SliceRange vocab = weights_.slice.vocab;
  const auto count = static_cast<int64_t>(rows.size());
  // What travels: the log-probability of the target in its shard, and the shard's log-sum-exp.
  const Matrix mine = ctx.arena.matrix(2, count);
  const auto column = [&](int64_t row) { return Matrix{mine.f32(row), DType::kF32, count, 1, 1}; };
  std::vector<int32_t> local;
  for (const int32_t target : targets)
    local.push_back(target >= vocab.begin && target < vocab.end() ? static_cast<int32_t>(target - vocab.begin)
                                                                  : 0);
  ops_.log_softmax_at(ctx, block, ops_.upload(ctx, local), column(0));
  if (!attn_tp_) return ops_.download(ctx, column(0), result);

  Communicator& group = *attn_tp_;
  ops_.log_sum_exp(ctx, block, column(1));
  const Matrix gathered = ctx.arena.matrix(2 * group.size(), count);
  const std::vector<int64_t> recv_bytes(group.size(), 2 * count * int64_t{sizeof(float)});
  group.all_gather_v(bytes_of(mine), bytes_of(gathered), recv_bytes, "log-probabilities");
  std::vector<float> all(static_cast<size_t>(gathered.rows * count));
  ops_.download(ctx, gathered, all);
  for (int64_t i = 0; i < count; ++i) {
    const auto lse = [&](int32_t r) { return all[(2 * r + 1) * count + i]; };
    float max = lse(0), logit = 0;
    for (int32_t r = 0; r < group.size(); ++r) {
      const SliceRange part = even_part(config_.vocab_size, group.size(), r);
      max = std::max(max, lse(r));
      if (targets[i] >= part.begin && targets[i] < part.end()) logit = all[2 * r * count + i] + lse(r);
    }
    double sum = 0;
    for (int32_t r = 0; r < group.size(); ++r) sum += std::exp(lse(r) - max);
    result[i] = logit - max - static_cast<float>(std::log(sum));
  }
}

}  // namespace longspan
