#pragma once

#include <memory>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "model/kv_exchange.h"
#include "model/rope.h"
#include "model/weights.h"
#include "plan/batch.h"
#include "plan/cp_plan.h"

namespace longspan {

/// The decoder of every supported family, for the rows of one rank. Immutable and shared by all local ranks;
/// knows neither requests nor devices.
class Decoder {
 public:
  Decoder(const ModelConfig& config, const ModelWeights& weights, Ops& ops);

  /// One step of rank `rank`: embeds its rows, runs every layer, exchanges new KV through `kv`, and returns
  /// the residual stream [T_local, H] f32 before the final norm, in ctx.arena. Collective over the cp group
  /// when kv is; a rank without rows takes part.
  Matrix forward(OpContext& ctx, const Batch& batch, const CpPlan& plan, int32_t rank, KvExchange& kv) const;

  /// Final norm and lm_head of rows `rows` of `hidden`: logits [rows.size(), V] f32 in ctx.arena.
  Matrix logits(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows) const;

  /// Log-probability (natural) of targets[i] after row rows[i], in blocks of rows so that the logits of a
  /// whole prompt never exist at once.
  std::vector<float> score(OpContext& ctx, Matrix hidden, std::span<const int32_t> rows,
                           std::span<const int32_t> targets) const;

  int64_t vocab_size() const { return config_.vocab_size; }

 private:
  void attention_layer(OpContext& ctx, const LayerWeights& layer, int32_t index, Matrix x,
                       const struct StepIndex& step, KvExchange& kv) const;
  void mlp(OpContext& ctx, const MlpWeights& weights, Matrix x, Matrix out, bool accumulate) const;
  void moe(OpContext& ctx, const MoeWeights& weights, Matrix x, Matrix out) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  Ops& ops_;
  Rope rope_;
};

}  // namespace longspan
