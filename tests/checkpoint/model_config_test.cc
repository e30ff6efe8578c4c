#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/error_matcher.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing_support::read_file;
using testing_support::TempDir;

json saved(const std::string& name) {
  return json::parse(read_file(LONGSPAN_SOURCE_DIR "/tests/golden/configs/" + name + ".json"));
}

// A merge patch (RFC 7396) on what transformers saved: null removes a field.
ModelConfig parse(json config, const json& patch = json::object(), const std::string& generation = "") {
  config.merge_patch(patch);
  return parse_model_config(config.dump(), generation);
}

struct Both : testing::TestWithParam<const char*> {
  ModelConfig config(const std::string& name) const { return parse(saved(name + GetParam())); }
};

INSTANTIATE_TEST_SUITE_P(Transformers, Both, testing::Values(".tf4", ".tf5"),
                         [](const auto& test) { return std::string(test.param).substr(1); });

TEST_P(Both, Qwen3MoeDefaults) {
  const ModelConfig config = this->config("qwen3_moe_defaults");
  EXPECT_EQ(config.architecture, Architecture::kQwen3Moe);
  EXPECT_EQ(config.architecture_name, "Qwen3MoeForCausalLM");
  EXPECT_EQ(config.vocab_size, 151936);
  EXPECT_EQ(config.hidden_size, 2048);
  EXPECT_EQ(config.num_layers, 24);
  EXPECT_EQ(config.num_heads, 32);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 64) << "hidden_size / num_attention_heads";
  EXPECT_EQ(config.intermediate_size, 6144);
  EXPECT_EQ(config.num_experts, 128);
  EXPECT_EQ(config.num_experts_per_tok, 8);
  EXPECT_EQ(config.moe_intermediate_size, 768);
  EXPECT_EQ(config.shared_expert_intermediate_size, 0);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_THAT(config.layer_is_moe, testing::Each(true));
  EXPECT_EQ(config.layer_is_moe.size(), 24u);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.context_length, 32768);
  EXPECT_EQ(config.rope, RopeConfig{});
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.dtype, DType::kBF16);
  EXPECT_TRUE(config.eos_token_ids.empty());
  EXPECT_EQ(config.bos_token_id, -1);
}

TEST_P(Both, Qwen3MoeYarn) {
  const ModelConfig config = this->config("qwen3_moe_yarn");
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_THAT(config.layer_is_moe, ElementsAre(false, true, false, false)) << "every 2nd, but not the last";
  EXPECT_EQ(config.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.rope.original_max_position, 256);
  EXPECT_EQ(config.rope.beta_fast, 16);
  EXPECT_EQ(config.rope.beta_slow, 1);
  EXPECT_EQ(config.rope.attention_factor, 1.25);
  EXPECT_EQ(config.context_length, 1024);
}

TEST_P(Both, Qwen3Linear) {
  const ModelConfig config = this->config("qwen3_linear");
  EXPECT_EQ(config.architecture, Architecture::kQwen3);
  EXPECT_EQ(config.num_heads, 5);
  EXPECT_EQ(config.num_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_TRUE(config.o_bias);
  EXPECT_FALSE(config.mlp_bias);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(config.rope.factor, 2.5);
  EXPECT_EQ(config.rope.theta, 5000);
  EXPECT_EQ(config.context_length, 512) << "only yarn stretches it";
  EXPECT_THAT(config.eos_token_ids, ElementsAre(7, 9));
  EXPECT_EQ(config.dtype, DType::kF16);
  EXPECT_EQ(config.num_experts, 0);
  EXPECT_THAT(config.layer_is_moe, ElementsAre(false, false, false));
}

TEST_P(Both, Qwen2Moe) {
  const ModelConfig config = this->config("qwen2_moe");
  EXPECT_EQ(config.architecture, Architecture::kQwen2Moe);
  EXPECT_EQ(config.shared_expert_intermediate_size, 72);
  EXPECT_THAT(config.layer_is_moe, ElementsAre(true, false, true));
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.dtype, DType::kF32);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(3));
}

TEST_P(Both, Qwen2WhoseWindowNoLayerUses) {
  const ModelConfig config = this->config("qwen2");
  EXPECT_EQ(config.architecture, Architecture::kQwen2);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.head_dim, 16);
}

TEST_P(Both, LlamaLlama3) {
  const ModelConfig config = this->config("llama_llama3");
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.rope.factor, 8);
  EXPECT_EQ(config.rope.low_freq_factor, 1);
  EXPECT_EQ(config.rope.high_freq_factor, 4);
  EXPECT_EQ(config.rope.original_max_position, 256);
  EXPECT_EQ(config.context_length, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
}

TEST_P(Both, LlamaBiases) {
  const ModelConfig config = this->config("llama_biases");
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_TRUE(config.o_bias);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_EQ(config.num_kv_heads, 6) << "as many as query heads";
}

TEST(ModelConfig, YarnStretchesTheContext) {
  const auto context = [](const char* rope, int64_t positions) {
    json config = saved("qwen3_linear.tf4");
    config["max_position_embeddings"] = positions;
    config["rope_scaling"] = json::parse(rope);
    return parse(config).context_length;
  };
  EXPECT_EQ(context(R"({"type":"yarn","factor":4.0})", 512), 2048);
  EXPECT_EQ(
      context(R"({"type":"yarn","rope_type":"yarn","factor":4,"original_max_position_embeddings":512})", 512),
      2048);
  EXPECT_EQ(context(R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":512})", 640), 2048);
  EXPECT_EQ(context(R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":512})", 2048), 2048);
  EXPECT_EQ(context(R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":512})", 4096), 4096);
}

TEST(ModelConfig, RopeSpellings) {
  const json base = saved("qwen3_linear.tf4");
  const auto rope = [&](const char* patch) { return parse(base, json::parse(patch)).rope; };
  const RopeConfig linear = rope("{}");
  EXPECT_EQ(rope(R"({"rope_scaling":{"rope_type":null,"type":"linear"}})"), linear);
  EXPECT_EQ(rope(R"({"rope_parameters":{"rope_type":"linear","factor":2.5}})"), linear) << "said twice";
  EXPECT_EQ(rope(R"({"rope_scaling":{"rope_theta":5000}})"), linear);
  EXPECT_EQ(rope(R"({"rope_scaling":null})").scaling, RopeScaling::kNone);
  EXPECT_EQ(rope(R"({"rope_scaling":null,"rope_theta":null})").theta, 10000);
  EXPECT_EQ(rope(R"({"rope_scaling":{"rope_type":"default","factor":null}})").scaling, RopeScaling::kNone);
  EXPECT_EQ(rope(R"({"partial_rotary_factor":1.0})"), linear);

  const RopeConfig yarn = rope(
      R"({"rope_scaling":{"rope_type":"yarn","factor":2,"beta_fast":0,"beta_slow":null,"mscale":0,"truncate":false,
          "mscale_all_dim":0.7,"attention_factor":null,"finetuned":true}})");
  EXPECT_EQ(yarn.beta_fast, 32);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_FALSE(yarn.mscale);
  EXPECT_EQ(yarn.mscale_all_dim, 0.7);
  EXPECT_FALSE(yarn.attention_factor);
  EXPECT_FALSE(yarn.truncate);
  EXPECT_EQ(yarn.original_max_position, 512) << "max_position_embeddings unless said";
  EXPECT_EQ(rope(R"({"original_max_position_embeddings":128,"rope_scaling":{"rope_type":"yarn","factor":2}})")
                .original_max_position,
            128);
}

// Published files, as far as their fields go.
TEST(ModelConfig, FieldsOfPublishedModels) {
  EXPECT_EQ(
      parse(saved("qwen2.tf4"), {{"torch_dtype", "bfloat16"}, {"use_mrope", false}, {"_name_or_path", "x"}})
          .dtype,
      DType::kBF16);
  const ModelConfig old_llama =
      parse(saved("llama_biases.tf4"),
            json::parse(R"({"num_key_value_heads":null,"head_dim":null,"dtype":null,"torch_dtype":"float16",
                      "pretraining_tp":1,"rope_theta":null,"max_length":4096,"attention_bias":null,"mlp_bias":null})"));
  EXPECT_EQ(old_llama.num_kv_heads, 6);
  EXPECT_EQ(old_llama.head_dim, 16);
  EXPECT_EQ(old_llama.dtype, DType::kF16);
  EXPECT_FALSE(old_llama.qkv_bias);
  EXPECT_EQ(parse(saved("qwen3_linear.tf4"), {{"head_dim", nullptr}}).head_dim, 128)
      << "Qwen3Config's default";
}

TEST(ModelConfig, Windows) {
  const json base = saved("qwen2.tf4");
  const auto accepted = [&](const char* patch) { return parse(base, json::parse(patch)).num_layers == 2; };
  EXPECT_TRUE(accepted(R"({"layer_types":null})")) << "max_window_layers is num_hidden_layers";
  EXPECT_TRUE(accepted(R"({"layer_types":null,"max_window_layers":0,"use_sliding_window":false})"));
  EXPECT_TRUE(accepted(R"({"layer_types":null,"max_window_layers":0,"sliding_window":null})"));
  EXPECT_TRUE(accepted(R"({"layer_types":null,"max_window_layers":0,"sliding_window":512})"))
      << "covers the context";
  EXPECT_TRUE(accepted(R"({"max_window_layers":0})")) << "layer_types decides";
}

TEST(ModelConfig, EndTokensComeFromTheGenerationConfigFirst) {
  const json base = saved("llama_llama3.tf5");
  EXPECT_THAT(parse(base, json::object(), R"({"eos_token_id":[5,6],"bos_token_id":4,"temperature":0.6})")
                  .eos_token_ids,
              ElementsAre(5, 6));
  EXPECT_EQ(parse(base, json::object(), R"({"bos_token_id":4})").bos_token_id, 4);
  EXPECT_THAT(parse(base, json::object(), R"({"eos_token_id":null})").eos_token_ids, ElementsAre(2));
  EXPECT_TRUE(
      throws_error([&] { parse(base, json::object(), R"({"eos_token_id":300})"); }, ErrorCode::kUnreadable,
                   "generation_config.json: field 'eos_token_id' must be a whole number from 0 to 299"));
  EXPECT_TRUE(throws_error([&] { parse(base, json::object(), R"({"eos_token_id":[2,"x"]})"); },
                           ErrorCode::kUnreadable, "eos_token_id"));
  EXPECT_TRUE(throws_error([&] { parse(base, json::object(), "[]"); }, ErrorCode::kUnreadable,
                           "generation_config.json: must be"));
}

TEST(ModelConfig, AModelWithoutExpertsIsDense) {
  const ModelConfig config =
      parse(saved("qwen3_moe_yarn.tf4"), {{"num_experts", 0}, {"num_experts_per_tok", nullptr}});
  EXPECT_THAT(config.layer_is_moe, testing::Each(false));
}

struct BadField {
  const char* name;
  const char* base;
  const char* patch;
  ErrorCode code;
  const char* message;
};

class BadConfig : public testing::TestWithParam<BadField> {};

TEST_P(BadConfig, IsRefused) {
  const BadField& bad = GetParam();
  const json base = saved(bad.base);
  ASSERT_NO_THROW(parse(base));
  EXPECT_TRUE(throws_error([&] { parse(base, json::parse(bad.patch)); }, bad.code, bad.message));
  EXPECT_TRUE(throws_error([&] { parse(base, json::parse(bad.patch)); }, bad.code, "config.json: "));
}

constexpr const char* kMoe = "qwen3_moe_yarn.tf4";
constexpr const char* kMoe5 = "qwen3_moe_yarn.tf5";
constexpr const char* kQwen2Moe = "qwen2_moe.tf4";
constexpr const char* kQwen2 = "qwen2.tf4";
constexpr const char* kQwen3 = "qwen3_linear.tf4";
constexpr const char* kLlama = "llama_llama3.tf4";

const auto by_name = [](const auto& test) { return test.param.name; };

INSTANTIATE_TEST_SUITE_P(
    Architecture, BadConfig,
    testing::Values(
        BadField{
            "unknown", kMoe, R"({"architectures":["MixtralForCausalLM"]})", kUnreadable,
            "unknown architecture 'MixtralForCausalLM'; known are Qwen3MoeForCausalLM, Qwen3ForCausalLM"},
        BadField{"missing", kMoe, R"({"architectures":null})", kUnreadable, "'architectures' must name one"},
        BadField{"empty", kMoe, R"({"architectures":[]})", kUnreadable, "'architectures' must name one"},
        BadField{"two", kMoe, R"({"architectures":["a","b"]})", kUnreadable, "'architectures' must name one"},
        BadField{"mistyped", kMoe, R"({"architectures":"Qwen3MoeForCausalLM"})", kUnreadable,
                 "a list of strings"},
        BadField{"other_type", kMoe, R"({"model_type":"qwen2"})", kUnreadable, "'qwen2' contradicts"},
        BadField{"quantised", kMoe, R"({"quantization_config":{"quant_method":"gptq","bits":4}})",
                 kNotSupported, "quant_method \"gptq\") marks a quantised checkpoint; use the BF16"},
        BadField{"quantised_nameless", kMoe, R"({"quantization_config":7})", kNotSupported, "quantised"},
        BadField{"custom_code", kMoe, R"({"auto_map":{"AutoModel":"modeling.X"}})", kNotSupported,
                 "'auto_map'"},
        BadField{"encoder", kMoe, R"({"is_encoder_decoder":true})", kNotSupported,
                 "'is_encoder_decoder' = true"},
        BadField{"not_causal", kQwen2, R"({"is_causal":false})", kNotSupported, "'is_causal'"},
        BadField{"activation", kLlama, R"({"hidden_act":"gelu"})", kNotSupported,
                 "'hidden_act' = \"gelu\" is not supported; \"silu\" is"},
        BadField{"unknown_field", kLlama, R"({"logit_softcapping":30})", kNotSupported,
                 "unknown field 'logit_softcapping' = 30"},
        BadField{"misspelt_field", kMoe, R"({"mlp_only_layer":[1]})", kNotSupported,
                 "did you mean 'mlp_only_layers'?"},
        BadField{"other_familys_field", kQwen2, R"({"num_experts":8})", kNotSupported,
                 "unknown field 'num_experts'"},
        BadField{"dtype", kLlama, R"({"dtype":"float8_e4m3fn"})", kNotSupported,
                 "bfloat16, float16 and float32"},
        BadField{"dtype_mistyped", kLlama, R"({"dtype":16})", kUnreadable, "'dtype' must be a string"},
        BadField{"two_dtypes", kLlama, R"({"torch_dtype":"float16"})", kUnreadable, "contradict each other"}),
    by_name);

INSTANTIATE_TEST_SUITE_P(
    Sizes, BadConfig,
    testing::Values(
        BadField{"missing_layers", kMoe, R"({"num_hidden_layers":null})", kUnreadable,
                 "'num_hidden_layers' is missing"},
        BadField{"text_layers", kMoe, R"({"num_hidden_layers":"four"})", kUnreadable, "it is \"four\""},
        BadField{"fraction", kMoe, R"({"hidden_size":96.0})", kUnreadable,
                 "'hidden_size' must be a whole number"},
        BadField{"zero_hidden", kMoe, R"({"hidden_size":0})", kUnreadable, "from 1 to"},
        BadField{"negative_vocab", kMoe, R"({"vocab_size":-5})", kUnreadable, "it is -5"},
        BadField{"zero_vocab", kMoe, R"({"vocab_size":0})", kUnreadable, "'vocab_size'"},
        BadField{"huge_vocab", kMoe, R"({"vocab_size":18446744073709551615})", kUnreadable, "'vocab_size'"},
        BadField{"huge_layers", kMoe, R"({"num_hidden_layers":2147483648})", kUnreadable, "from 1 to 16384"},
        BadField{"true_heads", kMoe, R"({"num_attention_heads":true})", kUnreadable, "it is true"},
        BadField{"zero_kv_heads", kMoe, R"({"num_key_value_heads":0})", kUnreadable, "'num_key_value_heads'"},
        BadField{"missing_kv_heads", kMoe, R"({"num_key_value_heads":null})", kUnreadable,
                 "'num_key_value_heads'"},
        BadField{"kv_heads_do_not_divide", kMoe, R"({"num_key_value_heads":4})", kUnreadable,
                 "num_attention_heads 6 must be a multiple of num_key_value_heads 4"},
        BadField{"more_kv_heads", kMoe, R"({"num_key_value_heads":12})", kUnreadable, "must be a multiple"},
        BadField{"odd_head_dim", kMoe, R"({"head_dim":63})", kUnreadable,
                 "must be even (rotary pairs), it is 63"},
        BadField{"no_head_dim", kMoe, R"({"head_dim":null,"hidden_size":100})", kUnreadable, "give head_dim"},
        BadField{"odd_derived_head_dim", kMoe, R"({"head_dim":null,"hidden_size":90})", kUnreadable,
                 "it is 15"},
        BadField{"zero_head_dim", kMoe, R"({"head_dim":0})", kUnreadable, "'head_dim'"},
        BadField{"zero_width", kLlama, R"({"intermediate_size":0})", kUnreadable, "'intermediate_size'"},
        BadField{"missing_width", kLlama, R"({"intermediate_size":null})", kUnreadable,
                 "'intermediate_size' is missing"},
        BadField{"missing_width_of_dense_layers", kMoe, R"({"intermediate_size":null})", kUnreadable,
                 "'intermediate_size' is missing"},
        BadField{"eps_text", kLlama, R"({"rms_norm_eps":"1e-6"})", kUnreadable, "must be a number"},
        BadField{"eps_negative", kLlama, R"({"rms_norm_eps":-1})", kUnreadable, "[0, 1)"},
        BadField{"missing_positions", kLlama, R"({"max_position_embeddings":null})", kUnreadable,
                 "'max_position_embeddings' is missing"},
        BadField{"zero_positions", kLlama, R"({"max_position_embeddings":0})", kUnreadable, "from 1"},
        BadField{"tied_text", kLlama, R"({"tie_word_embeddings":"yes"})", kUnreadable, "true or false"},
        BadField{"bias_number", kLlama, R"({"attention_bias":1})", kUnreadable, "true or false"},
        BadField{"eos_beyond_vocabulary", kLlama, R"({"eos_token_id":300})", kUnreadable, "from 0 to 299"},
        BadField{"eos_text", kLlama, R"({"eos_token_id":"</s>"})", kUnreadable, "'eos_token_id'"}),
    by_name);

INSTANTIATE_TEST_SUITE_P(
    Experts, BadConfig,
    testing::Values(
        BadField{"missing", kMoe, R"({"num_experts":null})", kUnreadable,
                 "(or 'num_local_experts') is missing"},
        BadField{"two_counts", kMoe5, R"({"num_experts":9})", kUnreadable,
                 "num_experts 9 and num_local_experts 8 contradict"},
        BadField{"missing_per_token", kMoe, R"({"num_experts_per_tok":null})", kUnreadable,
                 "'num_experts_per_tok'"},
        BadField{"zero_per_token", kMoe, R"({"num_experts_per_tok":0})", kUnreadable,
                 "'num_experts_per_tok'"},
        BadField{"more_per_token", kMoe, R"({"num_experts_per_tok":9})", kUnreadable,
                 "num_experts_per_tok 9 must be at most the number of experts 8"},
        BadField{"zero_width", kMoe, R"({"moe_intermediate_size":0})", kUnreadable,
                 "'moe_intermediate_size'"},
        BadField{"missing_width", kMoe, R"({"moe_intermediate_size":null})", kUnreadable,
                 "'moe_intermediate_size'"},
        BadField{"missing_shared", kQwen2Moe, R"({"shared_expert_intermediate_size":null})", kUnreadable,
                 "'shared_expert_intermediate_size'"},
        BadField{"shared_in_qwen3", kMoe, R"({"shared_expert_intermediate_size":64})", kNotSupported,
                 "unknown field 'shared_expert_intermediate_size'"},
        BadField{"dense_layer_out_of_range", kMoe, R"({"mlp_only_layers":[4]})", kUnreadable,
                 "whole numbers from 0 to 3, it is [4]"},
        BadField{"dense_layer_negative", kMoe, R"({"mlp_only_layers":[-1]})", kUnreadable,
                 "'mlp_only_layers'"},
        BadField{"dense_layers_mistyped", kMoe, R"({"mlp_only_layers":3})", kUnreadable,
                 "a list of whole numbers"},
        BadField{"zero_step", kMoe, R"({"decoder_sparse_step":0})", kUnreadable, "'decoder_sparse_step'"},
        BadField{"norm_topk_text", kMoe, R"({"norm_topk_prob":"true"})", kUnreadable, "true or false"}),
    by_name);

INSTANTIATE_TEST_SUITE_P(
    Positions, BadConfig,
    testing::Values(
        BadField{"dynamic", kLlama, R"({"rope_scaling":{"rope_type":"dynamic"}})", kNotSupported,
                 "rope_type 'dynamic' is not supported; default, linear, llama3 and yarn are"},
        BadField{"two_types", kLlama, R"({"rope_scaling":{"type":"yarn"}})", kUnreadable,
                 "contradict each other"},
        BadField{"not_object", kLlama, R"({"rope_scaling":"yarn"})", kUnreadable,
                 "rope_scaling: must be a JSON object"},
        BadField{"no_factor", kLlama, R"({"rope_scaling":{"factor":null}})", kUnreadable,
                 "'factor' is missing"},
        BadField{"small_factor", kLlama, R"({"rope_scaling":{"factor":0.5}})", kUnreadable,
                 "at least 1, it is 0.5"},
        BadField{"text_factor", kLlama, R"({"rope_scaling":{"factor":"8"}})", kUnreadable,
                 "'factor' must be a number"},
        BadField{"no_low_factor", kLlama, R"({"rope_scaling":{"low_freq_factor":null}})", kUnreadable,
                 "'low_freq_factor' is missing"},
        BadField{"crossed_factors", kLlama, R"({"rope_scaling":{"low_freq_factor":4}})", kUnreadable,
                 "low_freq_factor < high_freq_factor must hold, they are 4 and 4"},
        BadField{"crossed_betas", kMoe, R"({"rope_scaling":{"beta_slow":20}})", kUnreadable,
                 "they are 20 and 16"},
        BadField{"zero_original", kMoe, R"({"rope_scaling":{"original_max_position_embeddings":0}})",
                 kUnreadable, "'original_max_position_embeddings'"},
        BadField{"two_originals", kMoe, R"({"original_max_position_embeddings":100})", kUnreadable,
                 "256 contradicts"},
        BadField{"endless_context", kMoe, R"({"rope_scaling":{"factor":1e18}})", kUnreadable, "exceeds"},
        BadField{"zero_attention_factor", kMoe, R"({"rope_scaling":{"attention_factor":0}})", kUnreadable,
                 "attention_factor must be greater than 0"},
        BadField{"unknown_in_rope", kLlama, R"({"rope_scaling":{"mrope_section":[1]}})", kNotSupported,
                 "rope_scaling: unknown field 'mrope_section'"},
        BadField{"per_layer_type", kMoe5, R"({"rope_parameters":{"full_attention":{"rope_type":"yarn"}}})",
                 kNotSupported, "unknown field 'full_attention'"},
        BadField{"partial", kLlama, R"({"partial_rotary_factor":0.5})", kNotSupported,
                 "partial_rotary_factor 0.5"},
        BadField{"partial_in_rope", kMoe5, R"({"rope_parameters":{"partial_rotary_factor":0.5}})",
                 kNotSupported, "partial_rotary_factor 0.5"},
        BadField{"theta_one", kLlama, R"({"rope_theta":1})", kUnreadable, "greater than 1"},
        BadField{"theta_text", kLlama, R"({"rope_theta":"1e6"})", kUnreadable,
                 "'rope_theta' must be a number"},
        BadField{"two_thetas", kMoe5, R"({"rope_theta":5})", kUnreadable, "rope_theta 1000000 contradicts"},
        BadField{"two_ropes", kMoe5, R"({"rope_scaling":{"type":"linear","factor":2},"rope_theta":1e6})",
                 kUnreadable, "rope_parameters and rope_scaling contradict"},
        BadField{"window", kQwen2, R"({"layer_types":null,"max_window_layers":1})", kNotSupported,
                 "sliding_window 128 is in use and shorter than the context of 512"},
        BadField{"window_layer", kQwen2, R"({"layer_types":["full_attention","sliding_attention"]})",
                 kNotSupported, "sliding_window 128"},
        BadField{"window_moe", kMoe, R"({"use_sliding_window":true,"sliding_window":64})", kNotSupported,
                 "sliding_window 64"},
        BadField{"window_llama", kLlama, R"({"sliding_window":64})", kNotSupported,
                 "unknown field 'sliding_window'"},
        BadField{"window_text", kQwen2, R"({"use_sliding_window":"no"})", kUnreadable, "true or false"},
        BadField{"linear_attention", kQwen3,
                 R"({"layer_types":["full_attention","linear_attention","full_attention"]})", kNotSupported,
                 "layer type 'linear_attention'"},
        BadField{"layer_types_length", kQwen3, R"({"layer_types":["full_attention"]})", kUnreadable,
                 "layer_types has 1 entries, num_hidden_layers is 3"}),
    by_name);

TEST(ModelConfigText, BrokenJson) {
  const auto refused = [](const std::string& text, const char* message) {
    return throws_error([&] { parse_model_config(text, ""); }, ErrorCode::kUnreadable, message);
  };
  EXPECT_TRUE(refused("", "config.json: not valid JSON"));
  EXPECT_TRUE(refused("{\"a\":\xff}", "not valid JSON"));
  EXPECT_TRUE(refused("[]", "must be a JSON object"));
  EXPECT_TRUE(refused("null", "must be a JSON object"));
  EXPECT_TRUE(refused("{} {}", "not valid JSON"));
  EXPECT_TRUE(refused(R"({"rope_theta":1e999})", "not valid JSON"));
  EXPECT_TRUE(refused(R"({"vocab_size":1,"vocab_size":2})", "'vocab_size' appears twice"));
  EXPECT_TRUE(refused(std::string(1 << 20, '['), "nests deeper"));
  EXPECT_TRUE(refused("{\"a\":" + std::string(1 << 20, '['), "nests deeper"));
}

TEST(LoadModelConfig, Folders) {
  TempDir folder;
  const auto refused = [&](ErrorCode code, const char* message) {
    return throws_error([&] { load_model_config(folder.path()); }, code, message);
  };
  EXPECT_TRUE(refused(kUnreadable, "has no config.json"));
  folder.write("model.gguf", "GGUF");
  EXPECT_TRUE(refused(kNotSupported, "GGUF model (model.gguf)"));
  folder.write("config.json", saved("llama_llama3.tf5").dump());
  EXPECT_THAT(load_model_config(folder.path()).eos_token_ids, ElementsAre(2));
  folder.write("generation_config.json", R"({"eos_token_id":[8]})");
  EXPECT_THAT(load_model_config(folder.path()).eos_token_ids, ElementsAre(8));
  folder.write("generation_config.json", "{");
  EXPECT_TRUE(refused(kUnreadable, "generation_config.json: not valid JSON"));
  folder.write("config.json", "");
  EXPECT_TRUE(refused(kUnreadable, (folder.path() / "config.json").c_str()));
  EXPECT_TRUE(throws_error([&] { load_model_config(folder.path() / "no"); }, kUnreadable, "no model folder"));
}

TEST(LoadModelConfig, TheModelInTheBox) {
  const ModelConfig config = load_model_config(LONGSPAN_SOURCE_DIR "/models/recall-moe");
  EXPECT_EQ(config.architecture, Architecture::kQwen3Moe);
  EXPECT_EQ(config.head_dim, 128);
}

}  // namespace
}  // namespace longspan
