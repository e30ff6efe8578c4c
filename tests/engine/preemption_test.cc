// A pool too small for what runs: requests give their pages back, are computed again, and end with the same
// tokens.

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <map>

namespace longspan {
namespace {

EngineOptions options_with(int64_t kv_tokens, int32_t cp = 1) {
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.layout.cp = cp;
  options.dtype = ComputeType::kF32;
  options.page_size = 16;
  options.chunked_prefill_size = 48;
  options.max_total_tokens = kv_tokens;
  options.threads = 1;              // one per rank: ThreadSanitizer does not see libgomp's barriers
  options.min_tokens_per_rank = 0;  // short prompts are cut, too
  return options;
}

struct Answers {
  std::map<RequestId, Result> results;
  std::map<RequestId, int32_t> streamed;  // tokens told by on_token
  int64_t preemptions = 0;
};

/// Greedy and sampled answers, penalties, log-probabilities of prompts and tokens.
Answers answers_of(const EngineOptions& options) {
  const auto engine = Engine::open(options);
  Answers answers;
  for (int32_t i = 0; i < 6; ++i) {
    Request request;
    std::vector<int32_t> prompt;
    for (int32_t t = 0; t < 30 + 7 * i; ++t) prompt.push_back(100 + (t * 37 + i * 11) % 900);
    request.prompt = prompt;
    request.sampling = {.max_tokens = 60, .ignore_eos = true, .logprobs = 2};
    if (i % 2 == 1) {
      request.sampling.temperature = 0.9F;
      request.sampling.seed = 40 + i;
      request.sampling.frequency_penalty = 0.5F;
    }
    request.sampling.prompt_logprobs = i % 3 == 0;
    request.on_token = [&answers, id = RequestId(i + 1)](int32_t token, const std::string&) {
      if (token >= 0) ++answers.streamed[id];
    };
    request.on_progress = [told = 0](const Progress& progress) mutable {
      EXPECT_GT(progress.processed, told) << "it never falls";
      told = progress.processed;
      EXPECT_LE(told, progress.total);
    };
    request.on_finish = [&answers](const Result& result) { answers.results[result.id] = result; };
    engine->submit(std::move(request));
  }
  while (engine->step()) engine->check_integrity();
  answers.preemptions = engine->stats().preemptions;
  EXPECT_EQ(engine->stats().running + engine->stats().waiting, 0);
  return answers;
}

void expect_same(const Answers& tight, const Answers& roomy, const std::string& what) {
  EXPECT_GT(tight.preemptions, 0) << what;
  ASSERT_EQ(tight.results.size(), roomy.results.size()) << what;
  for (const auto& [id, expected] : roomy.results) {
    const Result& result = tight.results.at(id);
    EXPECT_EQ(result.token_ids, expected.token_ids) << what << ", request " << id << result.error_message;
    EXPECT_EQ(result.text, expected.text);
    EXPECT_EQ(tight.streamed.at(id), std::ssize(expected.token_ids)) << "no token is told twice";
    ASSERT_EQ(result.prompt_logprobs.size(), expected.prompt_logprobs.size());
    for (size_t i = 1; i < expected.prompt_logprobs.size(); ++i)
      EXPECT_NEAR(result.prompt_logprobs[i].value(), expected.prompt_logprobs[i].value(), 1e-3);
    ASSERT_EQ(result.logprobs.size(), expected.logprobs.size());
    for (size_t i = 0; i < expected.logprobs.size(); ++i)
      EXPECT_NEAR(result.logprobs[i].logprob, expected.logprobs[i].logprob, 1e-3);
    EXPECT_EQ(result.cached_tokens, expected.cached_tokens) << what << ", request " << id;
  }
}

TEST(Preemption, TheSameTokensAsWithRoomForAll) {
  const Answers roomy = answers_of(options_with(2048));
  EXPECT_EQ(roomy.preemptions, 0);
  for (const int32_t cp : {1, 2, 3}) {
    EngineOptions options = options_with(240, cp);
    expect_same(answers_of(options), roomy, "cp " + std::to_string(cp));
    options.prefix_cache = false;
    expect_same(answers_of(options), roomy, "without prefix tree, cp " + std::to_string(cp));
    if (cp == 1) continue;
    options.prefix_cache = true;
    options.shard_kv = true;
    expect_same(answers_of(options), roomy, "sharded, cp " + std::to_string(cp));
  }
}

// What can never fit is refused at once, and nobody is preempted for it.
TEST(Preemption, WhatCanNeverFitIsRefused) {
  const auto engine = Engine::open(options_with(160));
  Request request;
  request.prompt = std::vector<int32_t>(100, 300);
  request.sampling.max_tokens = 62;
  try {
    engine->generate(std::move(request));
    ADD_FAILURE() << "expected Error(kCapacity)";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
  }
  request = {};
  request.prompt = std::vector<int32_t>(100, 300);
  request.sampling = {.max_tokens = 61, .ignore_eos = true};
  EXPECT_EQ(engine->generate(std::move(request)).token_ids.size(), 61u) << "the whole pool";
  EXPECT_EQ(engine->stats().preemptions, 0);
}

}  // namespace
}  // namespace longspan
