#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "engine/golden_check.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan::testing_support {
namespace {

using nlohmann::json;

struct Change {
  const char* model;
  const char* patch;  // merged into config.json

  friend void PrintTo(const Change& change, std::ostream* out) {
    *out << change.model << ' ' << change.patch;
  }
};

class GoldenSensitivity : public testing::TestWithParam<Change> {};

// The goldens can fail: a config that says something else about one field no longer matches them.
TEST_P(GoldenSensitivity, AChangedFieldIsNoticed) {
  const GoldenModel model = load_golden_model(GetParam().model);
  TempDir folder;
  write_golden_model(model.name, folder.path());
  json config = json::parse(read_file(folder.path() / "config.json"));
  const json original = config;
  config.merge_patch(json::parse(GetParam().patch));
  ASSERT_NE(config, original);
  folder.write("config.json", config.dump());

  EngineOptions options;
  options.model = folder.path().string();
  options.dtype = ComputeType::kF32;
  options.max_total_tokens = 512;
  options.threads = 1;
  std::unique_ptr<Engine> engine;
  try {
    engine = Engine::open(options);
  } catch (const Error& refusal) {  // weights that the changed config has no use for
    EXPECT_EQ(refusal.code(), ErrorCode::kUnreadable);
    return;
  }
  const Result result = engine->generate(greedy_request(model.prompts.front(), true));
  EXPECT_NE(compare_to_golden(model.prompts.front(), result, f32_golden_bound(model)).problem, "");
}

INSTANTIATE_TEST_SUITE_P(
    Fields, GoldenSensitivity,
    testing::Values(Change{"qwen3_moe_wide_heads", R"({"norm_topk_prob":false})"},
                    Change{"qwen3_moe_wide_heads", R"({"num_experts_per_tok":3})"},
                    Change{"qwen3_moe_wide_heads", R"({"rope_theta":990000})"},
                    Change{"qwen3_moe_yarn_sharded", R"({"norm_topk_prob":true})"},
                    Change{"qwen3_moe_yarn_sharded", R"({"rope_parameters":{"factor":4.1}})"},
                    Change{"qwen3_moe_yarn_sharded",
                           R"({"rope_parameters":{"original_max_position_embeddings":128}})"},
                    Change{"qwen3_linear", R"({"rope_scaling":{"factor":4.01}})"},
                    Change{"qwen2_yarn", R"({"rope_scaling":{"attention_factor":null}})"},
                    Change{"llama_llama3", R"({"rope_parameters":{"low_freq_factor":1.5}})"},
                    Change{"llama_llama3", R"({"rope_parameters":{"high_freq_factor":4.5}})"},
                    Change{"llama_llama3", R"({"rope_parameters":{"rope_theta":510000}})"},
                    Change{"llama_biases", R"({"rms_norm_eps":1e-6})"},
                    Change{"llama_biases", R"({"mlp_bias":false})"},
                    Change{"llama_biases", R"({"attention_bias":false})"},
                    Change{"llama_yarn_mscale", R"({"rope_parameters":{"mscale":1.1}})"},
                    Change{"llama_yarn_mscale", R"({"rope_parameters":{"mscale_all_dim":null}})"},
                    Change{"llama_yarn_mscale", R"({"rope_parameters":{"truncate":true}})"},
                    Change{"llama_yarn_mscale", R"({"rope_parameters":{"beta_fast":5}})"},
                    Change{"llama_yarn_mscale", R"({"rope_parameters":{"beta_slow":1}})"},
                    Change{"qwen2_moe_norm_topk", R"({"norm_topk_prob":false})"}));

}  // namespace
}  // namespace longspan::testing_support
