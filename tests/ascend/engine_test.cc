// The engine on the ascend device: what it refuses, its bits at every cp, what a step costs, where it fails.

#include <gmock/gmock.h>
#include <longspan/engine.h>
#include <longspan/error.h>

#include <functional>

#include "ascend/engine_fixture.h"
#include "engine/golden_check.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::AscendEngine;
using testing_support::GoldenPrompt;
using testing_support::Simulator;

TEST_F(AscendEngine, RefusesWhatFusedAttentionOrTheBuildLacks) {
  EXPECT_THAT(refusal(options("llama_llama3", 2, "8.1")),
              AllOf(HasSubstr("CANN 8.1"), HasSubstr("head dim 64")));
  EngineOptions small_pages = options("llama_llama3", 2);
  small_pages.page_size = 64;
  EXPECT_THAT(refusal(small_pages), HasSubstr("use --page-size 128"));
  EngineOptions gathered = options("llama_llama3", 2);
  gathered.share_kv = false;
  EXPECT_THAT(refusal(gathered), AllOf(HasSubstr("--kv-exchange shared"), HasSubstr("--comm hccl")));
  EngineOptions sharded = options("llama_llama3", 2);
  sharded.shard_kv = true;
  EXPECT_THAT(refusal(sharded),
              AllOf(HasSubstr("--kv shard"), HasSubstr("only --comm hccl gives each rank one"),
                    HasSubstr("or --kv replicate")));
  EngineOptions split = options("llama_llama3", 1);
  split.layout = {.tp = 2, .cp = 1};
  EXPECT_THAT(refusal(split), HasSubstr("attn_tp must be 1 (is 2)"));
}

TEST_F(AscendEngine, RanksWithoutACardAreRefused) {
  EngineOptions many = options("llama_llama3", 3);
  many.hccl = true;
  many.ascend.device = 6;  // of 8
  EXPECT_THAT(refusal(many), AllOf(HasSubstr("rank 2 needs card 8, and 8 are seen"),
                                   HasSubstr("a layout of at most 2 ranks")));
  many.backend = "reference";
  EXPECT_THAT(refusal(many), HasSubstr("--comm hccl is for --backend ascend"));
}

TEST_F(AscendEngine, SplitExpertsNeedTheirOperator) {
  EngineOptions spread = options("qwen3_moe_wide_heads", 2, "8.1");
  spread.layout = {.tp = 2, .cp = 2, .moe_dp = 1, .ep = 2};
  spread.hccl = true;
  EXPECT_THAT(refusal(spread),
              AllOf(HasSubstr("aclnnMoeInitRoutingV3"), HasSubstr("(8.1) lacks"), HasSubstr("use --ep 1")));
}

TEST_F(AscendEngine, OddHeadDimsAreRefused) {
  EXPECT_THAT(refusal(options("llama_odd_heads", 1)), HasSubstr("head dim 24"));
}

TEST_F(AscendEngine, ExpertsOverSeveralRanksAreRefused) {
  EngineOptions spread = options("qwen3_moe_wide_heads", 2);
  spread.layout = {.tp = 2, .cp = 2, .moe_dp = 1, .ep = 2};
  EXPECT_THAT(refusal(spread), HasSubstr("moe_dp must be cp 2 (is 1)"));
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
  struct Variant {
    int32_t cp;
    bool hccl = false;
    int32_t launches = 0;
  };
  for (const auto& [cp, hccl, launches] :
       {Variant{1}, {2}, {3}, {4}, {2, false, 2}, {4, false, 2}, {2, true}, {3, true}, {3, true, 2}}) {
    simulator.seed(static_cast<uint64_t>(cp));
    EngineOptions o;
    o.model = folder.path().string();
    o.backend = "ascend";
    o.ascend.home = simulator.home();
    o.dtype = ComputeType::kBF16;
    o.layout.cp = cp;
    o.min_tokens_per_rank = 0;
    o.hccl = hccl;
    o.ascend.cp_launches = launches;
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
    EXPECT_EQ(logprobs, expected) << "cp " << cp << (hccl ? " over HCCL" : "") << ", launches " << launches;
    EXPECT_EQ(tokens, expected_tokens)
        << "cp " << cp << (hccl ? " over HCCL" : "") << ", launches " << launches;
  }
}

/// What one step costs.
struct Cost {
  uint64_t launches, syncs, downloads;
};

Cost cost_of_step(const Simulator& simulator, const EngineOptions& options, size_t requests, size_t tokens) {
  const auto engine = Engine::open(options);
  for (size_t i = 0; i < requests; ++i) {
    Request request;
    request.prompt = std::vector<int32_t>(tokens, static_cast<int32_t>(7 + i));
    request.sampling.max_tokens = 1;
    engine->submit(std::move(request));
  }
  simulator.reset_counts();
  EXPECT_TRUE(engine->step());
  return {simulator.count("launch"), simulator.count("sync"), simulator.count("memcpy:d2h")};
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
    EXPECT_EQ(simulator.count("launch:aclnnScatterNdUpdate"), layers * ranks) << "K and V at once";
    EXPECT_EQ(simulator.count("memcpy:d2h"), 1u) << "logits";
    EXPECT_EQ(simulator.count("sync"), ranks) << "one each, for the logits or for the end";
    constexpr uint64_t kPerLayer = 24, kEmbedding = 2, kLogits = 6;
    EXPECT_EQ(simulator.count("launch"), ranks * (kPerLayer * layers + kEmbedding) + kLogits);
  }
}

// Chunks and decoding rows come as the step before expects them; who arrives or is cancelled, even in
// another's place, changes the rows, and they are planned anew. The bits are those of one chunk.
TEST_F(AscendEngine, PreparedStepsGiveTheSameBits) {
  const Simulator simulator("8.5");
  std::vector<Result> results;
  const auto request = [&](int32_t tokens, int32_t max_tokens) {
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < tokens; ++i) prompt.push_back(3 + 7 * i % 50);
    Request request;
    request.prompt = prompt;
    request.sampling = {.max_tokens = max_tokens, .ignore_eos = true, .logprobs = 0};
    request.on_finish = [&](const Result& result) { results.push_back(result); };
    return request;
  };
  const auto logprobs = [](const Result& result) {
    std::vector<float> all;
    for (const TokenLogprob& token : result.logprobs) all.push_back(token.logprob);
    return all;
  };
  struct Ranks {
    int32_t cp;
    bool hccl;
    int32_t min_tokens_per_rank = 0;
  };
  for (const auto& [cp, hccl, min_tokens] : {Ranks{1, false}, {2, false}, {2, false, 1000}, {2, true}}) {
    EngineOptions o = options("qwen3_moe_wide_heads", cp);
    o.hccl = hccl;
    o.min_tokens_per_rank = min_tokens;  // 1000: on the wide rank
    o.prefix_cache = false;
    results.clear();
    Engine::open(o)->generate(request(125, 12));
    o.chunked_prefill_size = 40;
    {
      const auto engine = Engine::open(o);
      engine->generate(request(125, 12));  // over the border of a page
      EXPECT_EQ(engine->stats().steps, 4 + 11);
      EXPECT_EQ(engine->stats().prepared_steps, 4 + 11 - 1) << "all but the first";
    }
    const auto engine = Engine::open(o);
    engine->submit(request(125, 12));
    for (int i = 0; i < 6; ++i) engine->step();
    const auto prepared_after = [&](const std::function<void()>& disturbance) {
      const int64_t before = engine->stats().prepared_steps;
      disturbance();
      engine->step();
      return engine->stats().prepared_steps - before;
    };
    RequestId other = 0;
    const auto arrive = [&] { other = engine->submit(testing_support::prompt_of(30, 7, 20)); };
    EXPECT_EQ(prepared_after([] {}), 1);
    EXPECT_EQ(prepared_after(arrive), 0);
    EXPECT_EQ(prepared_after([] {}), 1);
    EXPECT_EQ(prepared_after([&] { engine->cancel(other); }), 0);
    EXPECT_EQ(prepared_after(arrive), 0);
    EXPECT_EQ(prepared_after([&] {
                engine->cancel(other);
                engine->submit(testing_support::prompt_of(1, 7, 2));
              }),
              0)
        << "as many rows and tokens, at another place";
    engine->run();
    ASSERT_EQ(results.size(), 3u);
    for (const Result& result : results) {
      EXPECT_EQ(result.token_ids, results[0].token_ids);
      EXPECT_EQ(logprobs(result), logprobs(results[0]));
    }
  }
  EXPECT_EQ(simulator.leaks(), "");
}

// The serving layout over HCCL, tp 4 = cp 2 x attn_tp 2 and moe_dp 2: what a layer, and a step, costs.
TEST_F(AscendEngine, CollectivesOfAStepOverHccl) {
  const Simulator simulator("8.5");
  EngineOptions o = options("qwen3_moe_wide_heads", 2);
  o.layout = {.tp = 4, .cp = 2, .moe_dp = 2, .ep = 1};
  o.hccl = true;
  const auto engine = Engine::open(o);
  Request request;
  request.prompt = std::vector<int32_t>(303, 7);
  request.sampling.max_tokens = 1;
  engine->submit(std::move(request));
  simulator.reset_counts();
  ASSERT_TRUE(engine->step());
  constexpr uint64_t kLayers = 3, kRanks = 4;
  EXPECT_EQ(simulator.count("collective:HcclAllGatherV"), kLayers * kRanks)
      << "one a layer and rank: [K | V]";
  EXPECT_EQ(simulator.count("collective:HcclAllReduce"), 2 * kLayers * kRanks) << "o_proj, experts";
  EXPECT_EQ(simulator.count("collective:HcclAllGather"), 2u) << "logits, on the ranks of the last row";
  EXPECT_EQ(simulator.count("collective"), (3 * kLayers) * kRanks + 2);
  EXPECT_EQ(simulator.count("launch:aclnnFusedInferAttentionScoreV3"), kLayers * kRanks);
  EXPECT_EQ(simulator.count("launch:aclnnScatterNdUpdate"), kLayers * kRanks)
      << "gathered rows to their slots";
  EXPECT_EQ(simulator.count("sync"), kRanks) << "one a rank and step";
  constexpr uint64_t kPerLayer = 28, kEmbedding = 2, kLogits = 8;
  EXPECT_EQ(simulator.count("launch"), kRanks * (kPerLayer * kLayers + kEmbedding) + 2 * kLogits);

  EngineOptions gathered = options("qwen3_moe_wide_heads", 2);
  gathered.hccl = true;
  EXPECT_EQ(cost_of_step(simulator, gathered, 1, 300).launches, 2 * (26 * kLayers + kEmbedding) + 6);
}

// The classic form: the first halves of all sequences in one launch, the second halves in another; a release
// before 8.5 gets it where something is cut. There a gather of counts that differ is padded, too.
TEST_F(AscendEngine, HalvesApartTakeTwoLaunches) {
  const auto launches = [&](const char* release, int32_t cp, int32_t wanted, bool hccl) {
    const Simulator simulator(release);
    EngineOptions o = options("qwen3_moe_wide_heads", cp, release);
    o.ascend.cp_launches = wanted;
    o.hccl = hccl;
    cost_of_step(simulator, o, 2, 150);  // 2 sequences: one split would not do
    if (hccl) {
      EXPECT_EQ(simulator.count("collective:HcclAllGather"), uint64_t{3} * cp);
      EXPECT_EQ(simulator.count("collective"), uint64_t{3} * cp);
    }
    return simulator.count("launch:aclnnFusedInferAttentionScoreV3");
  };
  EXPECT_EQ(launches("8.5", 2, 0, false), 3u * 2);
  EXPECT_EQ(launches("8.5", 2, 2, false), 3u * 2 * 2);
  EXPECT_EQ(launches("8.3", 2, 0, false), 3u * 2 * 2);
  EXPECT_EQ(launches("8.3", 2, 1, false), 3u * 2);
  EXPECT_EQ(launches("8.3", 1, 0, false), 3u) << "nothing is cut";
  EXPECT_EQ(launches("8.3", 4, 0, true), 3u * 4 * 2);
}

// However many sequences end in a step, their logits come at once.
TEST_F(AscendEngine, LogitsAreWaitedForOnce) {
  const Simulator simulator("8.5");
  const EngineOptions o = options("qwen3_moe_wide_heads", 1);
  const Cost one = cost_of_step(simulator, o, 1, 40), three = cost_of_step(simulator, o, 3, 40);
  EXPECT_EQ(three.downloads, 1u);
  EXPECT_EQ(three.syncs, one.syncs);
  EXPECT_EQ(three.launches, one.launches);
}

// 2250 rows: more than the CPU takes through a norm and the multiply behind it at a time.
TEST_F(AscendEngine, LaunchesDoNotGrowWithRows) {
  const Simulator simulator("8.5");
  EngineOptions o = options("llama_yarn_mscale", 1);
  const Cost few = cost_of_step(simulator, o, 5, 30), many = cost_of_step(simulator, o, 5, 450);
  EXPECT_EQ(many.launches, few.launches);
}

// Wherever in a step one of these operators is refused, the error names it, nothing is left over, and no work
// that was under way finds its memory gone.
TEST_F(AscendEngine, StepsFailCleanly) {
  const Simulator simulator("8.5");
  const EngineOptions o = options("qwen3_moe_wide_heads", 2);
  const auto fails = [&](const char* call, uint64_t after, int code) {
    bool failed = false;
    {
      const auto engine = Engine::open(o);
      Request request;
      request.prompt = std::vector<int32_t>(40, 7);
      request.sampling.max_tokens = 1;
      engine->submit(std::move(request));
      simulator.reset_counts();
      simulator.fail(call, after, code);
      try {
        engine->step();
      } catch (const Error& error) {
        failed = true;
        EXPECT_THAT(error.what(), HasSubstr(std::string(call) + ": fails because")) << after;
      }
      simulator.clear_faults();
    }
    EXPECT_EQ(simulator.count("fault"), 0u) << call << ' ' << after;
    EXPECT_EQ(simulator.leaks(), "") << call << ' ' << after;
    return failed;
  };
  const auto walk = [&](const char* call, int code) {
    uint64_t after = 0;
    while (fails(call, after, code)) ++after;
    return after;
  };
  EXPECT_EQ(walk("aclnnScatterNdUpdateGetWorkspaceSize", 561000), 3u * 2) << "3 layers on 2 ranks";
  EXPECT_EQ(walk("aclnnFusedInferAttentionScoreV3GetWorkspaceSize", 561002), 3u * 2);
}

// The end of a cached start is copied on each card, or once in the pool that ranks share, before it is read.
TEST_F(AscendEngine, ACachedStartIsCopiedWhereItIsRead) {
  const auto ids = [](int32_t other_from) {
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < 200; ++i) prompt.push_back(3 + (i < other_from ? i : 7 * i) % 50);
    return prompt;
  };
  for (const bool hccl : {false, true}) {
    for (const int32_t min_tokens_per_rank : {0, 512}) {  // cut, or on the wide rank
      const Simulator simulator("8.5");
      EngineOptions o = options("qwen3_moe_wide_heads", 2);
      o.hccl = hccl;
      o.min_tokens_per_rank = min_tokens_per_rank;
      const auto answer = [&](Engine& engine, int32_t other_from) {
        Request request;
        request.prompt = ids(other_from);
        request.sampling = {.max_tokens = 4, .ignore_eos = true};
        return engine.generate(std::move(request));
      };
      const std::vector<int32_t> alone = answer(*Engine::open(o), 170).token_ids;
      const auto engine = Engine::open(o);
      answer(*engine, 200);
      const Result second = answer(*engine, 170);
      EXPECT_EQ(second.cached_tokens, 170);
      EXPECT_EQ(second.token_ids, alone) << "hccl " << hccl;
    }
  }
}

// Over HCCL a rank that fails in the middle of a step is named, and the others, whose cards wait for its
// rows, are released by HCCL's time limit.
TEST_F(AscendEngine, AFailedRankReleasesTheOthersOverHccl) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  const Simulator simulator("8.5");
  EngineOptions o = options("qwen3_moe_wide_heads", 2);
  o.hccl = true;
  {
    const auto engine = Engine::open(o);
    Request request;
    request.prompt = std::vector<int32_t>(40, 7);
    request.sampling.max_tokens = 1;
    engine->submit(std::move(request));
    simulator.fail("aclnnFusedInferAttentionScoreV3GetWorkspaceSize", 2, 561002);
    try {
      engine->step();
      ADD_FAILURE() << "a step without one of its ranks";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kRankLost);
      EXPECT_THAT(error.what(), HasSubstr("aclnnFusedInferAttentionScoreV3GetWorkspaceSize: fails because"));
    }
  }
  unsetenv("HCCL_EXEC_TIMEOUT");
  EXPECT_EQ(simulator.leaks(), "");
}

}  // namespace
}  // namespace longspan
