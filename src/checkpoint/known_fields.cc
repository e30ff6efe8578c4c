#include "checkpoint/known_fields.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "checkpoint/json_text.h"

namespace longspan {
namespace {

using nlohmann::json;

// Fields of a config.json that describe training, generation, classification heads, other frameworks or where
// the file came from.
constexpr std::string_view kNoEffect[] = {
    // training
    "initializer_range", "attention_dropout", "router_aux_loss_coef", "output_router_logits", "use_cache",
    "pretraining_tp", "hidden_dropout", "resid_pdrop",
    // tokens and generation, which generation_config.json and each request decide
    "pad_token_id", "sep_token_id", "decoder_start_token_id", "max_length", "min_length", "max_new_tokens",
    "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature",
    "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "epsilon_cutoff",
    "eta_cutoff", "encoder_repetition_penalty",
    // what a call returns
    "return_dict", "output_hidden_states", "output_attentions", "output_logits", "torchscript",
    "tie_last_hidden_states", "chunk_size_feed_forward", "is_decoder", "tie_encoder_decoder",
    "cross_attention_hidden_size",
    // heads for other tasks
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "classifier_dropout", "prefix", "tokenizer_class",
    // origin and other software
    "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "_attn_implementation",
    "_attn_implementation_autoset", "attn_implementation", "experts_implementation", "_flash_attn_2_enabled",
    "_from_model_config", "use_bfloat16", "tf_legacy_loss", "unsloth_version", "unsloth_fixed",
    "transformers.js_config", "is_llama_config", "base_model", "license"};

// Fields that are fine with one value only; every other one changes the model in a way that is not built.
struct Fixed {
  const char* name;
  const char* value;  // JSON
};
constexpr Fixed kFixed[] = {
    {"hidden_act", "\"silu\""}, {"is_encoder_decoder", "false"}, {"add_cross_attention", "false"},
    {"is_causal", "true"},      {"use_mrope", "false"},          {"rope_interleaved", "false"},
    {"pruned_heads", "{}"},     {"per_layer_config", "{}"},      {"auto_map", "{}"}};

}  // namespace

void refuse_quantised(ConfigFields& fields) {
  for (const char* name : {"quantization_config", "compression_config"}) {
    const json* quantised = fields.find(name);
    if (!quantised) continue;
    const bool named = quantised->is_object() && quantised->contains("quant_method");
    fields.refuse(fmt::format(
        "{} (quant_method {}) marks a quantised checkpoint; use the BF16, F16 or F32 checkpoint it was "
        "made from",
        name, named ? shown((*quantised)["quant_method"]) : "not given"));
  }
}

void refuse_unbuilt(ConfigFields& fields) {
  for (const Fixed& fixed : kFixed) {
    const json* value = fields.find(fixed.name);
    if (value && *value != json::parse(fixed.value)) {
      fields.refuse(
          fmt::format("field '{}' = {} is not supported; {} is", fixed.name, shown(*value), fixed.value));
    }
  }
}

void ignore_known_fields(ConfigFields& fields) {
  fields.ignore(kNoEffect);
}

}  // namespace longspan
