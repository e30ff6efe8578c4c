// Golden prompts that start inside a page of an earlier request: the shared rows are copied, and what
// transformers computed comes out, whatever the layout and wherever pages are.

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include "engine/golden_check.h"
#include "engine/golden_layouts.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using namespace testing_support;

struct SharedCase {
  int32_t cp = 1;
  bool share_kv = true, shard_kv = false;
  std::string name() const {
    return "cp" + std::to_string(cp) + (shard_kv ? "_sharded" : share_kv ? "_shared" : "_gathered");
  }
};

class SharedPrefix : public testing::TestWithParam<SharedCase> {};
INSTANTIATE_TEST_SUITE_P(Layouts, SharedPrefix,
                         testing::Values(SharedCase{1}, SharedCase{2}, SharedCase{2, false},
                                         SharedCase{2, false, true}, SharedCase{3}, SharedCase{3, false},
                                         SharedCase{3, false, true}, SharedCase{4},
                                         SharedCase{4, false, true}),
                         [](const auto& test) { return test.param.name(); });

TEST_P(SharedPrefix, GoldensHoldBehindACopiedTail) {
  const char* const name = "qwen3_moe_wide_heads";
  const SharedCase& shared = GetParam();
  TempDir folder;
  write_golden_model(name, folder.path());
  LayoutCase layout{.model = name, .layout = {.cp = shared.cp}, .share_kv = shared.share_kv};
  if (shared.shard_kv) layout.shard = ShardExchange::kAuto;
  const auto engine = Engine::open(golden_options(layout, folder.path()));
  const GoldenModel model = load_golden_model(name);
  const GoldenBound bound = f32_golden_bound(model);
  int copied = 0;
  for (const GoldenPrompt& prompt : model.prompts) {
    const auto length = static_cast<int32_t>(prompt.ids.size());
    for (const int32_t start : {length / 3, length / 2 + 1, length - 1}) {
      if (start < 1) continue;
      // Another text with the same start, which may be all of it, under a salt of its own.
      const std::string salt = std::to_string(length) + "/" + std::to_string(start);
      Request other;
      std::vector<int32_t> ids(prompt.ids.begin(), prompt.ids.begin() + start);
      ids.push_back(start < length ? (prompt.ids[start] + 1) % 200 : 0);
      other.prompt = ids;
      other.cache_salt = salt;
      engine->generate(std::move(other));
      engine->check_integrity();

      Request request = greedy_request(prompt, /*scored=*/false);
      request.cache_salt = salt;
      const Result result = engine->generate(std::move(request));
      engine->check_integrity();
      EXPECT_EQ(compare_to_golden(prompt, result, bound).problem, "") << start << " of " << length;
      EXPECT_EQ(result.cached_tokens, std::min(start, length - 1));
      copied += start % 16 != 0 ? 1 : 0;
    }
  }
  EXPECT_GT(copied, 3);
}

EngineOptions small_options() {
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.dtype = ComputeType::kF32;
  options.page_size = 16;
  options.chunked_prefill_size = 64;
  options.max_total_tokens = 2048;
  options.threads = 1;
  options.min_tokens_per_rank = 0;  // short prompts are cut, too
  return options;
}

Request request_for(int32_t length, std::vector<Result>& results) {
  Request request;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < length; ++i) ids.push_back(100 + i * 37 % 900);
  request.prompt = ids;
  request.sampling = {.max_tokens = 6, .ignore_eos = true};
  request.on_finish = [&results](const Result& result) { results.push_back(result); };
  return request;
}

// Eight requests with one prompt at once: it is computed once, and all say the same.
TEST(SharedPrefix, RequestsThatComeTogetherComputeTheirPromptOnce) {
  for (const int32_t cp : {1, 2}) {
    EngineOptions options = small_options();
    options.layout.cp = cp;
    const auto engine = Engine::open(options);
    std::vector<Result> results;
    for (int i = 0; i < 8; ++i) engine->submit(request_for(150, results));
    while (engine->step()) engine->check_integrity();
    EXPECT_EQ(engine->stats().prefill_tokens, 150 + 7);
    ASSERT_EQ(results.size(), 8u);
    for (const Result& result : results) {
      EXPECT_EQ(result.token_ids, results[0].token_ids);
      EXPECT_EQ(result.cached_tokens, &result == &results[0] ? 0 : 149);
    }
  }
}

TEST(SharedPrefix, AnotherSaltFindsNothing) {
  const auto engine = Engine::open(small_options());
  std::vector<Result> results;
  for (const char* salt : {"", "a", "b", "a"}) {
    Request request = request_for(100, results);
    request.cache_salt = salt;
    engine->submit(std::move(request));
    engine->run();
  }
  std::vector<int32_t> cached;
  for (const Result& result : results) {
    cached.push_back(result.cached_tokens);
    EXPECT_EQ(result.token_ids, results[0].token_ids);
  }
  EXPECT_EQ(cached, (std::vector<int32_t>{0, 0, 0, 99}));
}

// An answer that goes on where another one ended, as chats do, computes its last token and what is new.
TEST(SharedPrefix, AConversationGoesOnBehindItsLastToken) {
  const auto engine = Engine::open(small_options());
  std::vector<Result> results;
  engine->submit(request_for(70, results));
  engine->run();
  Request next = request_for(70, results);
  std::vector<int32_t> ids = std::get<std::vector<int32_t>>(next.prompt);
  ids.insert(ids.end(), results[0].token_ids.begin(), results[0].token_ids.end());
  ids.insert(ids.end(), {300, 301});
  next.prompt = ids;
  engine->submit(std::move(next));
  engine->run();
  EXPECT_EQ(results[1].cached_tokens, 75) << "the answer's last token was never fed";
}

}  // namespace
}  // namespace longspan
