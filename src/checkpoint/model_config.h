#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace longspan {

enum class Architecture { kQwen3Moe, kQwen3, kQwen2Moe, kQwen2, kLlama };

enum class RopeScaling { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  int64_t original_max_position = 0;                 // tokens; llama3 and yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  std::optional<double> attention_factor;            // yarn; unset: 0.1 ln(factor) + 1
  std::optional<double> mscale, mscale_all_dim;      // yarn
  bool truncate = true;                              // yarn: whole-number correction range

  bool operator==(const RopeConfig&) const = default;
};

/// One model, every supported family. Spellings of transformers 4 and 5 are both read; a field that is
/// present and neither honoured nor known to be without effect is refused by name.
struct ModelConfig {
  Architecture architecture = Architecture::kQwen3Moe;
  std::string architecture_name;  // "Qwen3MoeForCausalLM"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;          // Hq
  int32_t num_kv_heads = 0;       // Hk = Hv
  int32_t head_dim = 0;           // D
  int64_t intermediate_size = 0;  // dense MLP width
  double rms_norm_eps = 1e-6;
  /// Tokens: max_position_embeddings; under yarn at least original_max_position times the factor.
  int64_t context_length = 0;
  RopeConfig rope;
  bool qkv_bias = false;  // attention_bias of Qwen3 and Llama also covers o_proj
  bool o_bias = false;
  bool mlp_bias = false;  // Llama
  bool qk_norm = false;   // Qwen3: RMS norm per head before rotation
  bool tie_word_embeddings = false;

  // Mixture of experts; num_experts 0: every layer is dense.
  int32_t num_experts = 0;
  int32_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t shared_expert_intermediate_size = 0;  // Qwen2-MoE; 0: none
  bool norm_topk_prob = false;
  std::vector<bool> layer_is_moe;  // [num_layers], from decoder_sparse_step and mlp_only_layers

  DType dtype = DType::kF32;           // what the checkpoint says of itself
  std::vector<int32_t> eos_token_ids;  // generation_config.json, else config.json
  int32_t bos_token_id = -1;           // -1: none
};

/// Reads config.json (and generation_config.json where there is one) of a Hugging Face folder.
/// Throws Error(kUnreadable): missing or malformed file, missing, mistyped or contradictory field, unknown
/// architecture; Error(kNotSupported): a quantised checkpoint, a sliding window in use, any field with an
/// effect that is not implemented. The message names file, field, value and the accepted choices.
ModelConfig load_model_config(const std::filesystem::path& folder);

/// The same from texts, for tests and fuzzing. `generation_json` may be empty.
ModelConfig parse_model_config(std::string_view config_json, std::string_view generation_json);

}  // namespace longspan
