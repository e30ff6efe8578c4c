#include "model/layout_model.h"

#include <algorithm>

namespace longspan {

LayoutModel layout_model(const ModelConfig& config) {
  const bool has_dense_layers =
      std::find(config.layer_is_moe.begin(), config.layer_is_moe.end(), false) != config.layer_is_moe.end();
  return {.heads_q = config.num_heads,
          .heads_kv = config.num_kv_heads,
          .experts = config.num_experts,
          .experts_per_token = config.num_experts_per_tok,
          .hidden = config.hidden_size,
          .expert_width = config.moe_intermediate_size,
          .shared_expert_width = config.shared_expert_intermediate_size,
          .mlp_width = has_dense_layers ? config.intermediate_size : 0,
          .vocab = config.vocab_size};
}

}  // namespace longspan
