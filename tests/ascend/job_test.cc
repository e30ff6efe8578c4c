// Ranks of the ascend device that are processes of a job: which card each has, what it exchanges, who is told
// what.

#include <gmock/gmock.h>
#include <longspan/engine.h>
#include <longspan/error.h>

#include <functional>
#include <thread>

#include "ascend/engine_fixture.h"
#include "engine/golden_check.h"
#include "engine/thread_job.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing_support::AscendEngine;
using testing_support::GoldenPrompt;
using testing_support::Simulator;

/// The processes of a job, as threads: rank 0 leads, the others follow. Each one's error, or nothing.
std::vector<std::string> run_job(const EngineOptions& options, int32_t size,
                                 const std::function<void(Engine&)>& lead) {
  const auto groups = std::make_shared<testing_support::ThreadJob::Groups>();
  std::vector<std::string> errors(size);
  std::vector<std::thread> processes;
  for (int32_t rank = 0; rank < size; ++rank) {
    processes.emplace_back([&, rank] {
      EngineOptions mine = options;
      mine.job = std::make_shared<testing_support::ThreadJob>(groups, rank, size);
      try {
        if (rank == 0)
          lead(*Engine::open(mine));
        else
          Engine::follow(mine);
      } catch (const Error& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (std::thread& process : processes) process.join();
  return errors;
}

// Where ranks are processes of a job each takes the card of its place on its host.
TEST_F(AscendEngine, ProcessesHaveACardEach) {
  const Simulator simulator("8.5");
  EngineOptions o = options("qwen3_moe_wide_heads", 2);
  o.layout = {.tp = 4, .cp = 2, .moe_dp = 2, .ep = 1};
  o.hccl = true;
  o.ascend.device = 3;
  const auto golden = testing_support::load_golden_model("qwen3_moe_wide_heads");
  const auto answer = [&](Engine& engine) {
    return engine.generate(testing_support::greedy_request(golden.prompts[0], true));
  };
  const Result threads = answer(*Engine::open(o));
  Result processes;
  simulator.reset_counts();
  const auto errors = run_job(o, 4, [&](Engine& engine) { processes = answer(engine); });
  EXPECT_EQ(errors, std::vector<std::string>(4));
  EXPECT_GT(simulator.count("collective:HcclAllGatherV"), 0u);
  EXPECT_EQ(processes.token_ids, threads.token_ids);
  EXPECT_EQ(processes.prompt_logprobs, threads.prompt_logprobs);
  EXPECT_EQ(simulator.leaks(), "");
  o.ascend.device = 5;  // of 8
  EXPECT_THAT(run_job(o, 4, [](Engine&) { FAIL(); }),
              Each(AllOf(HasSubstr("rank 3: backend ascend: device 8 is not there: 8 devices"),
                         HasSubstr("each rank on a host takes a device"))));
}

// With sharded KV, too, whatever is exchanged: the steps tell every process where a page is.
TEST_F(AscendEngine, ProcessesShardTheirKv) {
  const Simulator simulator("8.5");
  EngineOptions o = options("qwen3_moe_wide_heads", 2);
  o.hccl = true;
  o.shard_kv = true;
  o.chunked_prefill_size = 64;
  const auto golden = testing_support::load_golden_model("qwen3_moe_wide_heads");
  const auto longest = std::ranges::max_element(golden.prompts, {},
                                                [](const GoldenPrompt& prompt) { return prompt.ids.size(); });
  const auto answer = [&](Engine& engine) {
    Request first = testing_support::greedy_request(*longest, false);  // its start is cached then
    Request second = testing_support::greedy_request(*longest, true);
    first.sampling.max_tokens = 1;
    second.sampling.max_tokens = 3;
    engine.generate(std::move(first));
    return engine.generate(std::move(second));
  };
  for (const ShardExchange exchange : {ShardExchange::kRing, ShardExchange::kGatherQ}) {
    o.shard_exchange = exchange;
    const Result threads = answer(*Engine::open(o));
    Result processes;
    const auto errors = run_job(o, 2, [&](Engine& engine) { processes = answer(engine); });
    EXPECT_EQ(errors, std::vector<std::string>(2));
    EXPECT_EQ(processes.token_ids, threads.token_ids);
    EXPECT_EQ(processes.prompt_logprobs, threads.prompt_logprobs);
  }
  o.shard_exchange = ShardExchange::kAuto;
  EXPECT_EQ(run_job(o, 2, [&](Engine& engine) { EXPECT_FALSE(answer(engine).token_ids.empty()); }),
            std::vector<std::string>(2));
  EXPECT_EQ(simulator.leaks(), "");
}

// What keeps one of them from its group is told to all, and nobody waits for it.
TEST_F(AscendEngine, AProcessThatCannotJoinIsTold) {
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  const Simulator simulator("8.5");
  EngineOptions o = options("llama_llama3", 2);
  o.hccl = true;
  simulator.fail("HcclCommInitRootInfo", 1, 9);
  EXPECT_THAT(run_job(o, 2, [](Engine&) { FAIL(); }), Each(HasSubstr("HcclCommInitRootInfo failed with 9")));
  unsetenv("HCCL_CONNECT_TIMEOUT");
}

// Where ranks are processes the job tells those who wait for their cards who it was.
TEST_F(AscendEngine, AFailedProcessIsNamedToTheOthers) {
  setenv("HCCL_EXEC_TIMEOUT", "3", 1);
  const Simulator simulator("8.5");
  EngineOptions o = options("qwen3_moe_wide_heads", 2);
  o.hccl = true;
  const auto errors = run_job(o, 2, [&](Engine& engine) {
    Request request;
    request.prompt = std::vector<int32_t>(40, 7);
    request.sampling.max_tokens = 1;
    engine.submit(std::move(request));
    simulator.fail("aclnnFusedInferAttentionScoreV3GetWorkspaceSize", 0, 561002);
    engine.step();
  });
  EXPECT_THAT(errors, Each(HasSubstr("aclnnFusedInferAttentionScoreV3GetWorkspaceSize: fails because")));
  EXPECT_THAT(errors, testing::Contains(AllOf(HasSubstr("failed: "), HasSubstr("EI0002"))));
  unsetenv("HCCL_EXEC_TIMEOUT");
  EXPECT_EQ(simulator.leaks(), "");
}

}  // namespace
}  // namespace longspan
