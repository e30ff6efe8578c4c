#pragma once

#include <memory>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "model/kv_exchange.h"
#include "model/moe_layer.h"
#include "model/rope.h"
#include "model/weights.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"

namespace longspan {

/// The groups that one rank's layers meet in besides the KV exchange; a null group has this rank alone.
struct RankGroups {
  Communicator* attn_tp = nullptr;  // ranks with the same rows and other heads, MLP columns, vocabulary
  MoeGroup moe = {};
};

/// What of a step of one rank its rows and pages decide, ready on the host.
struct PreparedStep {
  RopeRows rope;
  std::unique_ptr<KvStep> kv;  // null: nothing is prepared
};

/// The decoder of every supported family, for the rows and the weights of one rank. Knows neither requests
/// nor devices.
class Decoder {
 public:
  Decoder(const ModelConfig& config, ModelWeights weights, const RankGroups& groups, Ops& ops);

  /// On any thread, before the step, until whose end the arguments stay.
  PreparedStep prepare(const BatchLayout& batch, const CpPlan& plan, int32_t cp_rank,
                       const KvExchange& kv) const;

  /// One step of cp rank `cp_rank`: embeds its rows, runs every layer, meets others' keys through `kv`, and
  /// returns the residual stream [T_local, H] f32 before the final norm, in ctx.arena. `prepared`:
  /// by prepare() of the same arguments. Collective over the rank's groups and over what kv is; a rank
  /// without rows takes part.
  Matrix forward(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t cp_rank, KvExchange& kv,
                 const PreparedStep& prepared) const;

  /// Final norm and lm_head of rows `rows` of `hidden`: logits [rows.size(), V] f32 in ctx.arena.
  /// Collective over attn_tp, whose ranks all get whole rows; nothing is done where there are no rows.
  Matrix logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const;

  /// Log-probability (natural) of targets[i] after row rows[i], in blocks of rows so that the logits of a
  /// whole prompt never exist at once. Collective over attn_tp: two numbers a row and shard travel.
  std::vector<float> score(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                           std::span<const int32_t> targets) const;

  int64_t vocab_size() const { return config_.vocab_size; }

 private:
  void attention_layer(OpContext& ctx, const LayerWeights& layer, int32_t index, Matrix x, Matrix cos_sin,
                       KvExchange& kv) const;
  void project(OpContext& ctx, const LayerWeights& layer, const LinearWeight& weights, Matrix x,
               Matrix normed, Matrix out) const;
  Matrix norm_whole(OpContext& ctx, const LayerWeights& layer, Matrix x) const;
  void add_reduced(OpContext& ctx, Communicator& group, Matrix partial, Matrix out, const char* tag) const;
  Matrix shard_logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const;
  void score_block(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                   std::span<const int32_t> targets, std::span<float> result) const;

  const ModelConfig& config_;
  const ModelWeights weights_;
  Communicator* const attn_tp_;
  Ops& ops_;
  const MoeLayer moe_;
  Rope rope_;
};

}  // namespace longspan
