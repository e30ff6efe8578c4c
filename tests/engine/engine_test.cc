#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>

#include "device/reference/reference_ops.h"
#include "engine/open.h"
#include "support/device_with_ops.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing::HasSubstr;

EngineOptions small_options(int32_t cp = 1) {
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.layout.cp = cp;
  options.min_tokens_per_rank = 0;
  options.dtype = ComputeType::kF32;
  options.page_size = 16;
  options.max_total_tokens = 2048;
  options.threads = 1;  // one per rank: ThreadSanitizer does not see libgomp's barriers
  return options;
}

std::vector<int32_t> prompt_ids(int32_t length, int32_t seed = 0) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < length; ++i) ids.push_back(100 + (i * 37 + seed * 11) % 900);
  return ids;
}

Request request_for(Prompt prompt, int32_t max_tokens, std::vector<Result>& results) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  request.on_finish = [&results](const Result& result) { results.push_back(result); };
  return request;
}

// One layer fewer in the config than in the weights: not a smaller model, a mistake.
TEST(Engine, RefusesWeightsThatTheConfigHasNoUseFor) {
  testing_support::TempDir folder;
  testing_support::write_golden_model("llama_llama3", folder.path());
  EngineOptions options = small_options();
  options.model = folder.path().string();
  Engine::open(options);

  std::ifstream in(folder.path() / "config.json");
  std::string config((std::istreambuf_iterator<char>(in)), {});
  const std::string layers = "\"num_hidden_layers\": 3";
  config.replace(config.find(layers), layers.size(), "\"num_hidden_layers\": 2");
  std::ofstream(folder.path() / "config.json") << config;
  try {
    Engine::open(options);
    ADD_FAILURE() << "expected Error(kUnreadable)";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnreadable);
    EXPECT_THAT(error.what(), HasSubstr("9 tensors that its config.json has no use for"));
    EXPECT_THAT(error.what(), HasSubstr("'model.layers.2."));
  }
}

// Every refusal is told in the request's own result; the others complete.
TEST(Engine, BadRequestsFailAlone) {
  const auto engine = Engine::open(small_options(2));
  std::vector<Result> good, bad;
  const auto refuse = [&](Prompt prompt, SamplingParams sampling = {}) {
    Request request = request_for(std::move(prompt), 4, bad);
    request.sampling = sampling;
    engine->submit(std::move(request));
  };
  engine->submit(request_for(prompt_ids(40), 4, good));
  refuse("");
  refuse(std::vector<int32_t>{5, 1000000});
  refuse(prompt_ids(100000));
  refuse(prompt_ids(3000));
  refuse(prompt_ids(4), {.max_tokens = -1});
  refuse(prompt_ids(4), {.top_p = 0});
  refuse(prompt_ids(4), {.stop = {""}});
  refuse(std::vector<Message>{});
  refuse(std::vector<Message>{{"wizard", "hello"}});
  engine->submit(request_for("Some words.", 4, good));
  engine->run();

  ASSERT_EQ(good.size(), 2u);
  for (const Result& result : good) EXPECT_EQ(result.token_ids.size(), 4u) << result.error_message;
  using Code = ErrorCode;
  const std::vector<std::pair<Code, std::string>> expected = {
      {Code::kInvalidRequest, "empty"},        {Code::kInvalidRequest, "1000000"},
      {Code::kContextLength, "100000"},        {Code::kCapacity, "--max-total-tokens"},
      {Code::kInvalidRequest, "max_tokens"},   {Code::kInvalidRequest, "top_p"},
      {Code::kInvalidRequest, "stop strings"}, {Code::kInvalidRequest, ""},
      {Code::kInvalidRequest, "wizard"}};
  ASSERT_EQ(bad.size(), expected.size());
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(bad[i].finish_reason, FinishReason::kError);
    EXPECT_EQ(bad[i].error_code, expected[i].first) << i << ": " << bad[i].error_message;
    EXPECT_THAT(bad[i].error_message, HasSubstr(expected[i].second));
  }
  engine->check_integrity();
  EXPECT_EQ(engine->stats().running + engine->stats().waiting, 0);
}

TEST(Engine, MaxTokensZeroComputesThePromptOnly) {
  const auto engine = Engine::open(small_options());
  Request request;
  request.prompt = prompt_ids(20);
  request.sampling.max_tokens = 0;
  request.sampling.prompt_logprobs = true;
  const Result result = engine->generate(std::move(request));
  EXPECT_TRUE(result.token_ids.empty());
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  ASSERT_EQ(result.prompt_logprobs.size(), 20u);
  EXPECT_FALSE(result.prompt_logprobs[0]);
  for (size_t i = 1; i < 20; ++i) EXPECT_LT(result.prompt_logprobs[i].value(), 0);
}

TEST(Engine, GenerationEndsAtTheContextLimit) {
  EngineOptions options = small_options();
  options.context_length = 24;
  const auto engine = Engine::open(options);
  std::vector<Result> results;
  engine->submit(request_for(prompt_ids(20), 100, results));
  engine->submit(request_for(prompt_ids(24), 100, results));
  engine->submit(request_for(prompt_ids(25), 100, results));
  engine->run();
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].error_code, ErrorCode::kContextLength);
  EXPECT_EQ(results[1].token_ids.size(), 0u);
  EXPECT_EQ(results[2].token_ids.size(), 4u);
  EXPECT_EQ(results[2].finish_reason, FinishReason::kLength);
}

TEST(Engine, AStopStringEndsTheTextBeforeIt) {
  const auto engine = Engine::open(small_options());
  std::vector<Result> results;
  engine->submit(request_for(prompt_ids(30), 12, results));
  engine->run();
  const std::string whole = results[0].text;
  ASSERT_GT(whole.size(), 6u);
  const std::string stop = whole.substr(whole.size() / 2, 3);

  std::string streamed;
  Request request = request_for(prompt_ids(30), 12, results);
  request.sampling.stop = {stop};
  request.on_token = [&](int32_t, const std::string& text) { streamed += text; };
  engine->submit(std::move(request));
  engine->run();
  EXPECT_EQ(results[1].text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(streamed, results[1].text);
  EXPECT_EQ(results[1].finish_reason, FinishReason::kStop);
}

TEST(Engine, CancelledRequestsGiveTheirPagesBackAndOthersGoOn) {
  EngineOptions options = small_options(2);
  options.chunked_prefill_size = 32;
  options.prefix_cache = false;
  const auto engine = Engine::open(options);
  std::vector<Result> results;
  const int64_t free_pages = engine->stats().free_pages;
  const RequestId first = engine->submit(request_for(prompt_ids(300, 1), 8, results));
  engine->submit(request_for(prompt_ids(50, 2), 8, results));
  engine->step();
  engine->cancel(first);
  engine->cancel(12345);
  engine->run();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].error_code, ErrorCode::kCancelled);
  EXPECT_EQ(results[1].token_ids.size(), 8u);
  EXPECT_EQ(engine->stats().free_pages, free_pages);
  engine->check_integrity();
}

TEST(Engine, ARequestMayArriveAndBeCancelledWithinOneStep) {
  const auto engine = Engine::open(small_options(2));
  std::vector<Result> results;
  Request first = request_for(prompt_ids(20, 1), 8, results);
  first.on_token = [&, asked = false](int32_t, const std::string&) mutable {
    if (std::exchange(asked, true)) return;
    engine->cancel(engine->submit(request_for(prompt_ids(20, 2), 8, results)));
  };
  engine->submit(std::move(first));
  engine->run();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].error_code, ErrorCode::kCancelled);
  EXPECT_EQ(results[1].token_ids.size(), 8u);
  engine->check_integrity();
}

TEST(Engine, RequestsMayArriveFromOtherThreadsWhileStepping) {
  const auto engine = Engine::open(small_options(2));
  std::vector<Result> results;
  std::atomic<bool> done = false;
  std::thread producer([&] {
    for (int i = 0; i < 20; ++i) engine->submit(request_for(prompt_ids(10 + i, i), 3, results));
    done = true;
  });
  while (!done || results.size() < 20) {
    engine->step();
    engine->check_integrity();
  }
  producer.join();
  for (const Result& result : results) EXPECT_EQ(result.token_ids.size(), 3u) << result.error_message;
}

TEST(Engine, ALaterPromptReusesTheCachedStart) {
  const auto engine = Engine::open(small_options());
  std::vector<Result> results;
  for (const int32_t length : {100, 120, 100})
    engine->submit(request_for(prompt_ids(length), 4, results)), engine->run();
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].cached_tokens, 0);
  EXPECT_EQ(results[1].cached_tokens, 100);
  EXPECT_EQ(results[2].cached_tokens, 99) << "the last token is always computed";
  EXPECT_EQ(results[2].token_ids, results[0].token_ids);
}

// Whatever the ranks are, weights are packed by as many threads as the process was given.
TEST(Engine, AsManyThreadsPackAsAskedFor) {
  static int most = 0;
  class PackingOps final : public ReferenceOps {
   public:
    PackingOps() : ReferenceOps(DType::kF32) {}
    std::unique_ptr<LinearWeight> pack_linear(std::span<const WeightView> stacked,
                                              std::span<const WeightView> biases,
                                              LinearPrecision precision) override {
      most = std::max(most, omp_get_max_threads());
      return ReferenceOps::pack_linear(stacked, biases, precision);
    }
  };
  const int before = omp_get_max_threads();
  EngineOptions options = small_options(2);
  options.threads = before + 1;
  open_engine(options, std::make_unique<testing_support::DeviceWithOps>(std::make_unique<PackingOps>()),
              [] { return 0.0; });
  EXPECT_EQ(most, before + 1);
  EXPECT_EQ(omp_get_max_threads(), before);
}

// Prompts in chunks beside decoding rows, a shared start, pages that are evicted and handed out again, a
// request that is cancelled: where each page is on one rank only, the same tokens as on one rank.
std::vector<Result> varied_traffic(const EngineOptions& options) {
  const auto engine = Engine::open(options);
  std::vector<Result> results;
  std::map<RequestId, Result> by_id;
  const auto submit = [&](Prompt prompt, int32_t max_tokens) {
    Request request = request_for(std::move(prompt), max_tokens, results);
    request.on_finish = [&by_id](const Result& result) { by_id[result.id] = result; };
    return engine->submit(std::move(request));
  };
  const auto step = [&] {
    engine->step();
    engine->check_integrity();
  };
  for (int round = 0; round < 3; ++round) {
    submit(prompt_ids(150, round), 6);
    step();
    const RequestId unwanted = submit(prompt_ids(90, 7 + round), 20);
    submit(prompt_ids(5, round), 12);
    for (int i = 0; i < 3; ++i) step();
    engine->cancel(unwanted);
    submit(prompt_ids(170, round), 5);  // starts as the first
    while (engine->stats().running + engine->stats().waiting > 0) step();
  }
  for (auto& [id, result] : by_id) results.push_back(std::move(result));
  return results;
}

TEST(Engine, EachPageOnOneRankGivesTheSameTokens) {
  EngineOptions options = small_options();
  options.chunked_prefill_size = 40;
  options.max_total_tokens = 480;
  const std::vector<Result> alone = varied_traffic(options);
  ASSERT_EQ(alone.size(), 12u);
  options.shard_kv = true;
  for (const int32_t cp : {2, 3}) {
    for (const ShardExchange exchange :
         {ShardExchange::kGatherKv, ShardExchange::kRing, ShardExchange::kGatherQ, ShardExchange::kAuto}) {
      options.layout.cp = cp;
      options.shard_exchange = exchange;
      const std::vector<Result> sharded = varied_traffic(options);
      ASSERT_EQ(sharded.size(), alone.size());
      int64_t cached = 0;
      for (size_t i = 0; i < alone.size(); ++i) {
        EXPECT_EQ(sharded[i].error_code, alone[i].error_code) << sharded[i].error_message;
        cached += sharded[i].cached_tokens;
        if (alone[i].error_code == ErrorCode::kCancelled) continue;
        EXPECT_EQ(sharded[i].token_ids, alone[i].token_ids) << "cp " << cp << ", request " << i;
      }
      EXPECT_GT(cached, 0);
    }
  }
}

TEST(Engine, ShardedPoolsTogetherHoldWhatWasAskedFor) {
  EngineOptions options = small_options(4);
  options.max_total_tokens = 2048;
  options.shard_kv = true;
  const auto engine = Engine::open(options);
  EXPECT_EQ(engine->info().kv_tokens, 2048);
  EXPECT_EQ(engine->stats().total_pages, 2048 / 16);
  std::vector<Result> results;
  engine->submit(request_for(prompt_ids(2000), 2, results));  // more than any one rank could hold
  engine->run();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].token_ids.size(), 2u) << results[0].error_message;
}

class FailingOps final : public ReferenceOps {
 public:
  FailingOps() : ReferenceOps(DType::kF32) {}
  void attention(OpContext& ctx, const AttentionArgs& args) override {
    if (--calls_left == 0) throw std::runtime_error("the device is on fire");
    ReferenceOps::attention(ctx, args);
  }
  std::atomic<int> calls_left = 21;
};

std::unique_ptr<Device> failing_device() {
  return std::make_unique<testing_support::DeviceWithOps>(std::make_unique<FailingOps>());
}

// One rank fails in the middle of a step: the others are released, every request ends with the reason, and
// the engine stays dead instead of hanging.
TEST(Engine, ALostRankFailsEveryRequestAndHangsNobody) {
  const auto engine = open_engine(small_options(3), failing_device(), [] { return 0.0; });
  std::vector<Result> results;
  for (int i = 0; i < 3; ++i) engine->submit(request_for(prompt_ids(30, i), 50, results));
  try {
    engine->run();
    ADD_FAILURE() << "expected Error(kRankLost)";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRankLost);
    EXPECT_THAT(error.what(), HasSubstr("the device is on fire"));
  }
  ASSERT_EQ(results.size(), 3u);
  engine->submit(request_for(prompt_ids(5), 1, results));
  EXPECT_THROW(engine->step(), Error);
  ASSERT_EQ(results.size(), 4u);
  for (const Result& result : results) EXPECT_EQ(result.error_code, ErrorCode::kRankLost);
}

// The same with both attention groups and a moe group that spans two cp ranks.
TEST(Engine, ALostRankReleasesEveryGroup) {
  EngineOptions options = small_options();
  options.layout = {.tp = 4, .cp = 2, .moe_dp = 1, .ep = 2};
  const auto engine = open_engine(options, failing_device(), [] { return 0.0; });
  std::vector<Result> results;
  for (int i = 0; i < 3; ++i) engine->submit(request_for(prompt_ids(30, i), 50, results));
  EXPECT_THROW(engine->run(), Error);
  ASSERT_EQ(results.size(), 3u);
  for (const Result& result : results) EXPECT_THAT(result.error_message, HasSubstr("on fire"));
}

// While keys and queries of other ranks are on their way.
TEST(Engine, ALostRankReleasesAnExchangeOfShardedKv) {
  for (const ShardExchange exchange :
       {ShardExchange::kGatherKv, ShardExchange::kRing, ShardExchange::kGatherQ}) {
    EngineOptions options = small_options(3);
    options.chunked_prefill_size = 16;
    options.shard_kv = true;
    options.shard_exchange = exchange;
    const auto engine = open_engine(options, failing_device(), [] { return 0.0; });
    std::vector<Result> results;
    for (int i = 0; i < 2; ++i) engine->submit(request_for(prompt_ids(60, i), 50, results));
    EXPECT_THROW(engine->run(), Error);
    ASSERT_EQ(results.size(), 2u);
    for (const Result& result : results) EXPECT_THAT(result.error_message, HasSubstr("on fire"));
  }
}

// Each slice is packed once: what the ranks of a grid hold together is the model, and little padding.
TEST(Engine, RanksOfAProcessShareTheirWeights) {
  EngineOptions options = small_options();
  options.backend = "reference";
  const int64_t one = Engine::open(options)->info().weight_bytes;
  for (const LayoutOptions& layout :
       {LayoutOptions{.cp = 3}, LayoutOptions{.tp = 4, .cp = 2}, LayoutOptions{.tp = 4, .cp = 4, .moe_dp = 1},
        LayoutOptions{.tp = 2, .cp = 1, .ep = 2}}) {
    options.layout = layout;
    EXPECT_EQ(Engine::open(options)->info().weight_bytes, one) << layout.tp << " " << layout.cp;
  }
}

TEST(Engine, OptionsOutOfRangeAndIllegalLayoutsAreRefused) {
  const auto code_of = [](auto change) {
    EngineOptions options = small_options();
    change(options);
    try {
      Engine::open(options);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of([](auto& o) { o.page_size = 0; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.mem_fraction = 1.5; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.context_length = int64_t{1} << 40; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.layout.tp = 3, o.layout.cp = 2; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.isa = "abacus"; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.backend = "cuda"; }), ErrorCode::kNotSupported);
  EXPECT_EQ(code_of([](auto& o) { o.backend = "toaster"; }), ErrorCode::kUsage);
  EXPECT_EQ(code_of([](auto& o) { o.model = "/nonexistent"; }), ErrorCode::kUnreadable);
  EXPECT_EQ(code_of([](auto& o) { o.max_total_tokens = int64_t{1} << 40; }), ErrorCode::kCapacity);
}

}  // namespace
}  // namespace longspan
