// The ascend device on the simulator: its ops against the reference, what it refuses and how, what it costs.

#include "device/device.h"

#include <gmock/gmock.h>
#include <longspan/engine.h>
#include <longspan/error.h>

#include <filesystem>
#include <fstream>

#include "ascend/simulator.h"
#include "device/self_check.h"
#include "engine/golden_check.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::GoldenPrompt;
using testing_support::Simulator;
using testing_support::TempDir;

namespace fs = std::filesystem;

DeviceOptions ascend_options(const std::string& home) {
  DeviceOptions options{.backend = "ascend", .compute = DType::kBF16};
  options.ascend.home = home;
  return options;
}

std::string refusal(const DeviceOptions& options, ErrorCode code = ErrorCode::kNotSupported) {
  try {
    make_device(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(AscendDevice, EveryOpIsWithinItsBound) {
  for (const char* release : {"8.5", "9.0"}) {
    const Simulator simulator(release);
    {
      const auto device = make_device(ascend_options(simulator.home()));
      const auto checks = check_ops(*device);
      EXPECT_EQ(checks.size(), 20u);
      for (const OpCheck& check : checks)
        EXPECT_TRUE(check.ok()) << check.op << ": " << check.error << " of " << check.bound << ' '
                                << check.failure;
    }
    EXPECT_EQ(simulator.leaks(), "");
  }
}

// Work in another order between streams, the same results.
TEST(AscendDevice, OpsDoNotDependOnWhenTheyRun) {
  const Simulator simulator("8.5");
  std::vector<double> errors;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    simulator.seed(seed);
    const auto device = make_device(ascend_options(simulator.home()));
    std::vector<double> now;
    for (const OpCheck& check : check_ops(*device)) now.push_back(check.error);
    if (errors.empty()) errors = now;
    EXPECT_EQ(now, errors);
  }
}

TEST(AscendDevice, AnOldReleaseRefusesAttentionWithItsReason) {
  const Simulator simulator("8.1");
  const auto device = make_device(ascend_options(simulator.home()));
  int refused = 0;
  for (const OpCheck& check : check_ops(*device)) {
    if (check.ok()) continue;
    ++refused;
    EXPECT_THAT(check.failure,
                AllOf(HasSubstr("CANN 8.1"), HasSubstr("head dim 64"), HasSubstr("must be 192")));
  }
  EXPECT_EQ(refused, 4) << "the KV pool can't be made";
}

TEST(AscendDevice, OnlyPagesOf128AndWholeBf16) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  try {
    device->ops().make_kv_pool({1, 4, 16, 1, 64, 1, 64});
    ADD_FAILURE() << "a page of 16 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_THAT(error.what(), HasSubstr("use --page-size 128"));
  }
  try {
    device->ops().make_kv_pool({1, 4, 128, 1, 96, 1, 96});
    ADD_FAILURE() << "a head dim of 96 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_THAT(error.what(), HasSubstr("head dim 96"));
  }
  DeviceOptions options = ascend_options(simulator.home());
  options.compute = DType::kF32;
  EXPECT_THAT(refusal(options), HasSubstr("use --dtype bf16"));
  options.compute = DType::kBF16;
  options.int8 = true;
  EXPECT_THAT(refusal(options), HasSubstr("int8"));
  options.int8 = false;
  options.ascend.use_fia = false;
  EXPECT_THAT(refusal(options), AllOf(HasSubstr("not implemented without FIA"), HasSubstr("ASCEND_USE_FIA")));
  options.ascend.use_fia = true;
  options.ascend.device = 8;
  EXPECT_THAT(refusal(options), HasSubstr("device 8 is not there: 8 devices"));
}

// A toolkit folder that lacks one library, or has an empty one in its place.
TEST(AscendDevice, WhatIsMissingIsNamed) {
  const TempDir empty;
  EXPECT_THAT(refusal(ascend_options(empty.path().string())),
              AllOf(HasSubstr("no ACL runtime"), HasSubstr((empty.path() / "lib64/libascendcl.so").string()),
                    HasSubstr("libacl_rt.so")));

  const Simulator simulator("8.5");
  const auto without = [&](const std::vector<std::string>& names) {
    const TempDir folder;
    fs::create_directories(folder.path() / "lib64");
    for (const auto& entry : fs::directory_iterator(simulator.home() + "/lib64"))
      if (std::find(names.begin(), names.end(), entry.path().filename()) == names.end())
        fs::create_symlink(entry.path(), folder.path() / "lib64" / entry.path().filename());
    return refusal(ascend_options(folder.path().string()));
  };
  EXPECT_THAT(without({"libnnopbase.so"}), HasSubstr("no libnnopbase.so"));
  EXPECT_THAT(without({"libopapi_math.so", "libopapi_nn.so", "libopapi_cv.so", "libopapi_transformer.so",
                       "libopapi_oam.so", "libopapi_legacy.so"}),
              AllOf(HasSubstr("no operator library"), HasSubstr("libopapi_transformer.so"),
                    HasSubstr("lib64/libopapi.so")));
  EXPECT_THAT(without({"libopapi_math.so"}),
              AllOf(HasSubstr("lacks the operator aclnnInplaceCopy"), HasSubstr("libopapi_nn.so")));
}

TEST(AscendDevice, OppPathIsAskedForAtOnce) {
  const Simulator simulator("8.5");
  unsetenv("ASCEND_OPP_PATH");
  EXPECT_THAT(refusal(ascend_options(simulator.home())), HasSubstr("needs ASCEND_OPP_PATH"));
}

TEST(AscendDevice, MemoryRunsOutWithItsCode) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  try {
    device->memory().allocate(int64_t{1} << 40);
    ADD_FAILURE() << "a terabyte was there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
  }
  void* block = device->memory().allocate(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
  device->memory().release(block, 1000);
  EXPECT_EQ(device->memory().allocate(1000), block) << "blocks are kept";
  device->memory().release(block, 1000);
}

class AscendEngine : public testing::Test {
 protected:
  EngineOptions options(const std::string& model, int32_t cp, const char* release = "8.5") {
    testing_support::write_golden_model(model, folder_.path());
    EngineOptions options;
    options.model = folder_.path().string();
    options.backend = "ascend";
    options.ascend.home = Simulator(release).home();
    options.dtype = ComputeType::kBF16;
    options.layout.cp = cp;
    options.max_total_tokens = 4096;
    options.threads = 1;
    return options;
  }
  std::string refusal(const EngineOptions& options) {
    try {
      Engine::open(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported) << error.what();
      return error.what();
    }
    return "accepted";
  }

  TempDir folder_;
};

TEST_F(AscendEngine, RefusesWhatFusedAttentionOrTheBuildLacks) {
  EXPECT_THAT(refusal(options("llama_llama3", 2, "8.1")),
              AllOf(HasSubstr("CANN 8.1"), HasSubstr("head dim 64")));
  EngineOptions small_pages = options("llama_llama3", 2);
  small_pages.page_size = 64;
  EXPECT_THAT(refusal(small_pages), HasSubstr("use --page-size 128"));
  EngineOptions gathered = options("llama_llama3", 2);
  gathered.share_kv = false;
  EXPECT_THAT(refusal(gathered), HasSubstr("--kv-exchange shared"));
  EngineOptions sharded = options("llama_llama3", 2);
  sharded.shard_kv = true;
  EXPECT_THAT(refusal(sharded), HasSubstr("use --kv replicate"));
  EngineOptions split = options("llama_llama3", 1);
  split.layout = {.tp = 2, .cp = 1};
  EXPECT_THAT(refusal(split), HasSubstr("attn_tp must be 1 (is 2)"));
}

TEST_F(AscendEngine, OddHeadDimsAreRefused) {
  EXPECT_THAT(refusal(options("llama_odd_heads", 1)), HasSubstr("head dim 24"));
}

// Whatever cp, seed and cut: rows are computed one by one, keys are reduced in one order, so
// log-probabilities are the same to the bit.
TEST_F(AscendEngine, EveryCpGivesTheSameBits) {
  const Simulator simulator("8.5");
  const auto golden = testing_support::load_golden_model("qwen3_moe_wide_heads");
  std::vector<std::vector<std::optional<float>>> expected;
  std::vector<std::vector<int32_t>> expected_tokens;
  TempDir folder;
  testing_support::write_golden_model("qwen3_moe_wide_heads", folder.path());
  for (const int32_t cp : {1, 2, 3, 4}) {
    simulator.seed(static_cast<uint64_t>(cp));
    EngineOptions o;
    o.model = folder.path().string();
    o.backend = "ascend";
    o.ascend.home = simulator.home();
    o.dtype = ComputeType::kBF16;
    o.layout.cp = cp;
    o.max_total_tokens = 4096;
    o.threads = 1;
    const auto engine = Engine::open(o);
    std::vector<std::vector<std::optional<float>>> logprobs;
    std::vector<std::vector<int32_t>> tokens;
    for (const GoldenPrompt& prompt : golden.prompts) {
      const Result result = engine->generate(testing_support::greedy_request(prompt, true));
      logprobs.push_back(result.prompt_logprobs);
      tokens.push_back(result.token_ids);
    }
    if (expected.empty()) {
      expected = logprobs;
      expected_tokens = tokens;
    }
    EXPECT_EQ(logprobs, expected) << "cp " << cp;
    EXPECT_EQ(tokens, expected_tokens) << "cp " << cp;
  }
}

// What a step costs, as docs/ascend.md lists it.
TEST_F(AscendEngine, LaunchesAndWaitsOfAStep) {
  const Simulator simulator("8.5");
  const uint64_t layers = 3;
  for (const int32_t cp : {1, 2}) {
    const auto engine = Engine::open(options("qwen3_moe_wide_heads", cp));
    Request request;
    request.prompt = std::vector<int32_t>(300, 7);
    request.sampling.max_tokens = 1;
    engine->submit(std::move(request));
    simulator.reset_counts();
    ASSERT_TRUE(engine->step());
    const auto ranks = static_cast<uint64_t>(cp);
    EXPECT_EQ(simulator.count("launch:aclnnFusedInferAttentionScoreV3"), layers * ranks)
        << "one a layer and rank";
    EXPECT_EQ(simulator.count("launch:aclnnScatterNdUpdate"), 2 * layers * ranks) << "K and V";
    EXPECT_EQ(simulator.count("memcpy:d2h"), 1u) << "logits";
    // The end of the step on every rank, the logits on one; with several ranks, before each layer's barrier.
    EXPECT_EQ(simulator.count("sync"), ranks + 1 + (cp > 1 ? layers * ranks : 0));
    constexpr uint64_t kPerLayer = 38, kEmbedding = 2, kLogits = 6;
    EXPECT_EQ(simulator.count("launch"), ranks * (kPerLayer * layers + kEmbedding) + kLogits);
  }
}

}  // namespace
}  // namespace longspan
