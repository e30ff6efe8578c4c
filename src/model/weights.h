#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/ops.h"
#include "plan/rank_slice.h"

namespace longspan {

/// Letters here are of the rank's slice, E excepted.
/// gate and up stacked [2I, H]; down [H, I].
struct MlpWeights {
  std::shared_ptr<LinearWeight> gate_up, down;
  int64_t width = 0;  // I
};

struct MoeWeights {
  std::shared_ptr<LinearWeight> router;  // [E, H], f32
  std::shared_ptr<ExpertWeights> experts;
  std::unique_ptr<MlpWeights> shared;         // null: none, or only another ep rank adds it
  std::shared_ptr<LinearWeight> shared_gate;  // [1, H], f32; with `shared`
};

/// One decoder layer. Exactly one of `mlp` and `moe` is set.
struct LayerWeights {
  std::shared_ptr<const float[]> input_norm, post_attention_norm;  // [H]
  std::shared_ptr<LinearWeight> qkv;              // [(Hq + Hk + Hv) * D, H], q rows first, or
  std::shared_ptr<LinearWeight> q, kv;            // [Hq * D, H] and [(Hk + Hv) * D, H]
  std::shared_ptr<LinearWeight> o;                // [H, Hq * D]
  std::shared_ptr<const float[]> q_norm, k_norm;  // [D], or null
  std::shared_ptr<const float[]> heads_norm;      // [(Hq + Hk) * D] those of each head, where the device asks
  std::unique_ptr<MlpWeights> mlp;
  std::unique_ptr<MoeWeights> moe;
};

/// What one rank holds of a model.
struct ModelWeights {
  RankSlice slice;
  std::shared_ptr<EmbeddingTable> embedding;  // [V, H], whole
  std::vector<LayerWeights> layers;
  std::shared_ptr<const float[]> final_norm;  // [H]
  std::shared_ptr<LinearWeight> lm_head;      // [V, H]
  int64_t bytes = 0;                          // packed, of this rank; slices may be shared with others
};

/// The packed slices of a process, by what they are cut from: ranks that hold the same slice share one copy.
struct PackedSlices {
  std::map<std::string, std::shared_ptr<LinearWeight>> linear;
  std::map<std::string, std::shared_ptr<ExpertWeights>> experts;
  std::shared_ptr<EmbeddingTable> embedding;
  std::set<std::string> tensors;  // of the checkpoint, that ranks have asked for

  int64_t bytes() const;
};

/// Packs the rank's slices of every tensor that `config` names, those that `packed` lacks; mapped pages are
/// dropped as they are packed. Throws Error(kUnreadable) for a missing tensor or one of another shape.
/// `checkpoint` must outlive the result.
ModelWeights load_weights(const ModelConfig& config, const Checkpoint& checkpoint, const RankSlice& slice,
                          Ops& ops, PackedSlices& packed);

/// To be called when every rank of the layout has loaded. Throws Error(kUnreadable) for a tensor that nobody
/// asked for (a bias, a layer too many), since leaving it out would silently compute another model.
void refuse_unread_tensors(const ModelConfig& config, const Checkpoint& checkpoint,
                           const PackedSlices& packed);

}  // namespace longspan
