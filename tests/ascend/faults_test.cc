// Whatever allocation or launch of a step goes wrong: one clear error, nothing left over, nothing that hangs,
// and an engine that is opened afterwards works.

#include <gmock/gmock.h>

#include <chrono>
#include <map>

#include "ascend/small_engine.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::Attempt;
using testing_support::attempt;
using testing_support::prompt_of;
using testing_support::Simulator;
using testing_support::SmallModel;

constexpr size_t kTokens = 40;

class AscendFaults : public testing::Test {
 protected:
  ~AscendFaults() override { simulator_.clear_faults(); }

  Attempt with_rules(const EngineOptions& options, const std::vector<std::string>& rules,
                     int32_t max_tokens = 1) {
    simulator_.clear_faults();
    simulator_.reset_counts();
    for (const std::string& rule : rules) simulator_.fault(rule);
    const Attempt result = attempt(options, kTokens, max_tokens);
    const std::string which = rules.empty() ? "no rule" : rules[0];
    EXPECT_EQ(simulator_.count("fault"), 0u) << which << ": work found its memory gone";
    EXPECT_EQ(simulator_.leaks(), "") << which;
    simulator_.clear_faults();
    return result;
  }

  const Simulator simulator_{"8.5"};
  const SmallModel model_{"qwen3_moe_wide_heads"};
};

// Every allocation of device memory from the start to the end of a step. An arena that is refused a large
// block asks for what it needs, and is refused again.
TEST_F(AscendFaults, EveryAllocationCanBeRefused) {
  const EngineOptions options = model_.options(simulator_, 1);
  ASSERT_EQ(with_rules(options, {}).code, std::nullopt);
  const uint64_t allocations = simulator_.count("malloc");
  ASSERT_GT(allocations, 10u);
  int at_start = 0, in_step = 0, asked_again = 0;
  for (uint64_t nth = 1; nth <= allocations; ++nth) {
    const auto rule = [&](uint64_t n) { return "aclrtMalloc nth " + std::to_string(n) + " no-memory"; };
    Attempt failed = with_rules(options, {rule(nth)});
    if (!failed.code) {
      ++asked_again;
      failed = with_rules(options, {rule(nth), rule(nth + 1)});
    }
    ++(failed.opened ? in_step : at_start);
    EXPECT_EQ(failed.code, failed.opened ? ErrorCode::kRankLost : ErrorCode::kCapacity) << nth;
    EXPECT_THAT(failed.text, HasSubstr("aclrtMalloc failed with 207001: aclrtMalloc: fails because")) << nth;
  }
  EXPECT_GT(at_start, 0);
  EXPECT_GT(in_step, 0);
  EXPECT_EQ(asked_again, 1) << "the arena's first block";
  EXPECT_EQ(with_rules(options, {}).code, std::nullopt);
}

// Pinned memory is asked for again when what is kept of it has been given back. Of two steps: in the first
// the second is prepared, and where there is no memory for that, it is not.
TEST_F(AscendFaults, EveryPinnedAllocationCanBeRefused) {
  const EngineOptions options = model_.options(simulator_, 1);
  ASSERT_EQ(with_rules(options, {}).code, std::nullopt);
  const uint64_t of_one_step = simulator_.count("malloc:host");
  ASSERT_EQ(with_rules(options, {}, 2).code, std::nullopt);
  const uint64_t allocations = simulator_.count("malloc:host");
  ASSERT_GT(of_one_step, 0u);
  ASSERT_GT(allocations, of_one_step);
  int refused = 0, unprepared = 0;
  for (uint64_t nth = 1; nth <= allocations; ++nth) {
    const auto rule = [&](uint64_t n) { return "aclrtMallocHost nth " + std::to_string(n) + " no-memory"; };
    EXPECT_EQ(with_rules(options, {rule(nth)}, 2).code, std::nullopt) << nth;
    const Attempt failed = with_rules(options, {rule(nth), rule(nth + 1)}, 2);
    ++(failed.code ? refused : unprepared);
    if (!failed.code) continue;
    EXPECT_EQ(failed.code, failed.opened ? ErrorCode::kRankLost : ErrorCode::kCapacity) << nth;
    EXPECT_THAT(failed.text, HasSubstr("aclrtMallocHost failed with 207001")) << nth;
  }
  EXPECT_GE(refused, static_cast<int>(of_one_step));
  EXPECT_GT(unprepared, 0);
}

// The operators of a step by name, each as often as it is launched.
std::map<std::string, uint64_t> launches_of_step(const Simulator& simulator, const EngineOptions& options) {
  const auto engine = Engine::open(options);
  engine->submit(prompt_of(kTokens));
  simulator.reset_counts();
  engine->step();
  std::map<std::string, uint64_t> result;
  uint64_t sum = 0;
  for (const char* op :
       {"Embedding", "InplaceCopy", "RmsNorm", "Mm", "InplaceAdd", "Mul", "RotaryPositionEmbedding",
        "ScatterNdUpdate", "FusedInferAttentionScoreV3", "SwiGlu", "MoeGatingTopKSoftmaxV2",
        "MoeInitRoutingV3", "GroupedMatmulV4", "MoeFinalizeRoutingV2", "Softmax", "ArgMax", "IndexSelect"}) {
    const std::string name = std::string("aclnn") + op;
    if (const uint64_t count = simulator.count(("launch:" + name).c_str())) result[name] = count;
    sum += simulator.count(("launch:" + name).c_str());
  }
  EXPECT_EQ(sum, simulator.count("launch")) << "an operator is missing in the list";
  return result;
}

// Each launch of a step, and each description before it; of the latter every third (they end alike, and all
// of attention's and the pool's are walked in engine_test.cc).
TEST_F(AscendFaults, EveryLaunchOfAStepCanFail) {
  const EngineOptions options = model_.options(simulator_, 1);
  for (const auto& [op, count] : launches_of_step(simulator_, options)) {
    for (const auto& [call, stride] : {std::pair(op, 1), std::pair(op + "GetWorkspaceSize", 3)}) {
      for (uint64_t after = 0; after < count; after += static_cast<uint64_t>(stride)) {
        // Of the step: the start describes some operators, too.
        simulator_.clear_faults();
        const auto engine = Engine::open(options);
        engine->submit(prompt_of(kTokens));
        simulator_.fail(call.c_str(), after, 507899);
        try {
          engine->step();
          ADD_FAILURE() << call << ' ' << after << " was not noticed";
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kRankLost);
          EXPECT_THAT(error.what(),
                      AllOf(HasSubstr("a rank was lost: "), HasSubstr(call + ": fails because")));
        }
      }
      EXPECT_EQ(simulator_.leaks(), "") << call;
    }
  }
  EXPECT_EQ(with_rules(options, {}).code, std::nullopt);
}

TEST_F(AscendFaults, CopiesAndWaitsCanFail) {
  const EngineOptions options = model_.options(simulator_, 1);
  for (const char* call :
       {"aclrtMemcpyAsync", "aclrtSynchronizeStream", "aclrtCreateStream", "aclrtCreateEventExWithFlag",
        "aclrtMemcpy", "aclCreateTensor", "aclCreateIntArray"}) {
    const Attempt failed = with_rules(options, {std::string(call) + " nth 1 fail 507899"});
    EXPECT_EQ(failed.code, failed.opened ? ErrorCode::kRankLost : ErrorCode::kInternal) << call;
    EXPECT_THAT(failed.text, HasSubstr(call)) << call;
  }
}

// Slow work changes nothing but the time.
TEST_F(AscendFaults, StalledWorkIsWaitedFor) {
  const auto begin = std::chrono::steady_clock::now();
  const Attempt slow =
      with_rules(model_.options(simulator_, 2), {"aclnnFusedInferAttentionScoreV3 nth 2 stall 300"});
  EXPECT_EQ(slow.code, std::nullopt) << slow.text;
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(300));
}

// Whatever a kernel writes, a step ends; what the numbers are worth is not the engine's to know.
TEST_F(AscendFaults, GarbageEndsNoProcess) {
  for (const char* call :
       {"aclnnMm every 3", "aclnnFusedInferAttentionScoreV3", "aclnnRmsNorm nth 1", "aclrtMemcpyAsync nth 1",
        "aclnnMoeGatingTopKSoftmaxV2", "aclnnScatterNdUpdate nth 1"}) {
    simulator_.clear_faults();
    simulator_.fault(std::string(call) + " garbage");
    const Attempt result = attempt(model_.options(simulator_, 2), kTokens);
    if (result.code) {
      EXPECT_EQ(result.code, ErrorCode::kRankLost) << call << ": " << result.text;
      EXPECT_THAT(result.text, HasSubstr("507015")) << "a kernel finds an index that can't be";
    }
    EXPECT_EQ(simulator_.leaks(), "") << call;
  }
}

// Over HCCL the ranks wait for each other: a call that fails or stalls on one of them releases all.
TEST_F(AscendFaults, CollectivesThatFailOrStallReleaseAllRanks) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  const EngineOptions options = model_.options(simulator_, 2, true);
  for (const char* rule :
       {"HcclAllGather device 1 nth 2 fail 4", "HcclAllGather device 0 nth 3 stall 1500"}) {
    simulator_.clear_faults();
    simulator_.fault(rule);
    const Attempt failed = attempt(options, kTokens);
    EXPECT_EQ(failed.code, ErrorCode::kRankLost) << rule;
    EXPECT_EQ(simulator_.leaks(), "") << rule;
  }
  unsetenv("HCCL_EXEC_TIMEOUT");
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  for (const char* call : {"HcclGetRootInfo", "HcclCommInitRootInfo"}) {
    const Attempt failed = with_rules(options, {std::string(call) + " device 0 nth 1 fail 4"});
    EXPECT_FALSE(failed.opened);
    EXPECT_NE(failed.code, std::nullopt) << call;
    EXPECT_THAT(failed.text, HasSubstr(call));
  }
  unsetenv("HCCL_CONNECT_TIMEOUT");
  EXPECT_EQ(with_rules(options, {}).code, std::nullopt);
}

}  // namespace
}  // namespace longspan
