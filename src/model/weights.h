#pragma once

#include <memory>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/ops.h"

namespace longspan {

/// gate and up stacked [2I, H]; down [H, I].
struct MlpWeights {
  std::unique_ptr<LinearWeight> gate_up, down;
  int64_t width = 0;  // I
};

struct MoeWeights {
  std::unique_ptr<LinearWeight> router;  // [E, H], f32
  std::unique_ptr<ExpertWeights> experts;
  std::unique_ptr<MlpWeights> shared;         // null: none
  std::unique_ptr<LinearWeight> shared_gate;  // [1, H], f32; with `shared`
};

/// One decoder layer. Exactly one of `mlp` and `moe` is set.
struct LayerWeights {
  std::vector<float> input_norm, post_attention_norm;  // [H]
  std::unique_ptr<LinearWeight> qkv;                   // [(Hq + Hk + Hv) * D, H], q rows first
  std::unique_ptr<LinearWeight> o;                     // [H, Hq * D]
  std::vector<float> q_norm, k_norm;                   // [D], or empty
  std::unique_ptr<MlpWeights> mlp;
  std::unique_ptr<MoeWeights> moe;
};

/// All weights of a model, packed once for a device and shared by every local rank.
struct ModelWeights {
  WeightView embedding;  // [V, H], in the checkpoint's map
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;          // [H]
  std::unique_ptr<LinearWeight> lm_head;  // [V, H]
  int64_t bytes = 0;                      // resident, packed
};

/// Packs every tensor that `config` names; mapped pages are dropped as they are packed. Throws
/// Error(kUnreadable) for a missing tensor or one of another shape. `checkpoint` must outlive the result.
ModelWeights load_weights(const ModelConfig& config, const Checkpoint& checkpoint, Ops& ops);

}  // namespace longspan
