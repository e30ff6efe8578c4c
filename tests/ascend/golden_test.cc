// Golden models on the ascend backend over the CANN simulator, within the bounds that hold for bf16 on a CPU.
// FULL_TESTS=1 runs every model with every cp on every release, else a part.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <longspan/engine.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "ascend/simulator.h"
#include "engine/golden_check.h"
#include "engine/golden_layouts.h"
#include "support/full_tests.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing_support::compare_to_golden;
using testing_support::GoldenBound;
using testing_support::GoldenFinding;
using testing_support::GoldenModel;
using testing_support::GoldenPrompt;
using testing_support::Simulator;
using testing_support::TempDir;

// As the bf16 tests on a CPU: in units of the noise of transformers' own bf16.
constexpr double kFactor = 1, kMeanFactor = 1.5;

// Those whose head dim is 64 or 128; the others are refused (device_test.cc).
constexpr const char* kModels[] = {"qwen3_moe_wide_heads", "llama_llama3",   "qwen3_moe_all_experts",
                                   "qwen3_linear",         "llama_biases",   "qwen3_moe_yarn_sharded",
                                   "qwen2_yarn",           "qwen3_mha_tied", "llama_yarn_mscale",
                                   "qwen2_moe_norm_topk"};
// head dim 32, which the newest release takes.
constexpr const char* kNewestOnly[] = {"qwen3_moe_sparse_step", "qwen2_moe_shared"};

// tp, cp, moe_dp, ep; the serving layout first.
const struct {
  const char *model, *release;
  LayoutOptions layout;
} kOnCards[] = {
    {"qwen3_moe_wide_heads", "8.5", {4, 2, 2, 1}},   {"qwen3_moe_wide_heads", "9.0", {2, 2, 1, 2}},
    {"qwen3_moe_wide_heads", "8.5", {4, 2, 1, 4}},   {"qwen3_moe_all_experts", "8.5", {4, 2, 1, 2}},
    {"qwen3_moe_yarn_sharded", "9.0", {3, 3, 1, 3}}, {"qwen2_moe_shared", "9.0", {4, 1, 1, 2}},
    {"llama_biases", "8.5", {3, 3, 3, 1}},           {"qwen3_linear", "8.5", {3, 3, 3, 1}},
    {"llama_llama3", "9.0", {2, 1, 1, 1}},           {"qwen3_moe_wide_heads", "8.3", {4, 2, 2, 1}},
    {"llama_yarn_mscale", "8.3", {3, 3, 3, 1}},
};

struct Configuration {
  std::string model, release;
  int32_t cp, chunk;
  std::optional<LayoutOptions> cards = {};  // a card for each rank of this layout; else ranks share one
  std::string name() const {
    std::string text =
        fmt::format("{}_cann{}_cp{}_chunk{}", model, release, cp, chunk < 0 ? "any" : std::to_string(chunk));
    if (cards) text += fmt::format("_tp{}_moedp{}_ep{}", cards->tp, cards->moe_dp, cards->ep);
    std::replace(text.begin(), text.end(), '.', '_');
    return text;
  }
  friend void PrintTo(const Configuration& c, std::ostream* out) { *out << c.name(); }
};

std::vector<Configuration> configurations() {
  std::vector<Configuration> list;
  if (testing_support::full_tests()) {
    for (const int32_t cp : {1, 2, 3, 4}) {
      for (const char* model : kModels)
        for (const char* release : {"8.5", "9.0"}) list.push_back({model, release, cp, cp % 2 ? 64 : -1});
      for (const char* model : kNewestOnly) list.push_back({model, "9.0", cp, 64});
    }
    for (const int32_t tp : {2, 3, 4})
      for (const char* model : kModels)
        for (const LayoutOptions& layout :
             testing_support::legal_layouts(testing_support::layout_model_of(model), tp))
          list.push_back(
              {model, list.size() % 3 ? "8.5" : "9.0", layout.cp, list.size() % 2 ? 64 : -1, layout});
    return list;
  }
  for (size_t i = 0; i < std::size(kModels); ++i)
    list.push_back(
        {kModels[i], i % 3 == 2 ? "9.0" : "8.5", static_cast<int32_t>(4 - i % 4), i % 2 ? -1 : 64});
  for (size_t i = 0; i < std::size(kNewestOnly); ++i)
    list.push_back({kNewestOnly[i], "9.0", static_cast<int32_t>(2 + i), 64});
  for (const auto& [model, release, layout] : kOnCards)
    list.push_back({model, release, layout.cp, list.size() % 2 ? 64 : -1, layout});
  return list;
}

EngineOptions options_for(const Configuration& c, const std::string& model, const Simulator& simulator) {
  EngineOptions options;
  options.model = model;
  options.backend = "ascend";
  options.ascend.home = simulator.home();
  options.dtype = ComputeType::kBF16;
  options.layout.cp = c.cp;
  options.min_tokens_per_rank = 0;
  options.hccl = c.cards.has_value();
  if (c.cards) options.layout = *c.cards;
  options.chunked_prefill_size = c.chunk;
  options.max_total_tokens = 4096;
  options.threads = 1;
  return options;
}

class AscendGolden : public testing::TestWithParam<Configuration> {};

TEST_P(AscendGolden, MatchesTheOracle) {
  const Configuration& c = GetParam();
  const Simulator simulator(c.release);
  simulator.seed(std::hash<std::string>()(c.name()));
  const GoldenModel golden = testing_support::load_golden_model(c.model);
  const TempDir folder;
  testing_support::write_golden_model(c.model, folder.path());
  const GoldenBound bound{.logprob = kFactor * golden.bf16_noise.logprob,
                          .router = kFactor * golden.bf16_noise.router};
  double worst = 0, sum = 0;
  int64_t compared = 0;
  size_t finished = 0;
  {
    const auto engine = Engine::open(options_for(c, folder.path().string(), simulator));
    EXPECT_THAT(engine->info().device, testing::StartsWith("ascend Ascend910B3 CANN " + c.release));
    const auto submit = [&](const GoldenPrompt& prompt, bool scored) {
      Request request = testing_support::greedy_request(prompt, scored);
      request.on_finish = [&](const Result& result) {
        ++finished;
        const GoldenFinding finding = compare_to_golden(prompt, result, bound);
        EXPECT_EQ(finding.problem, "") << "prompt of " << prompt.ids.size() << " tokens";
        worst = std::max(worst, finding.worst);
        sum += finding.sum;
        compared += finding.compared;
      };
      engine->submit(std::move(request));
    };
    // All rows at once (prefill beside decode as they end), then a prefix that is cached.
    for (const GoldenPrompt& prompt : golden.prompts) submit(prompt, true);
    engine->run();
    submit(golden.prompts.front(), false);
    engine->run();
    engine->check_integrity();
  }
  EXPECT_EQ(finished, golden.prompts.size() + 1);
  EXPECT_LE(sum / static_cast<double>(compared), kMeanFactor * golden.bf16_noise.mean_logprob);
  EXPECT_EQ(simulator.leaks(), "");
  RecordProperty("worst_logprob", fmt::format("{:.3g} of {:.3g}", worst, bound.logprob));
  RecordProperty("mean_logprob", fmt::format("{:.3g} of {:.3g}", sum / static_cast<double>(compared),
                                             kMeanFactor * golden.bf16_noise.mean_logprob));
}

INSTANTIATE_TEST_SUITE_P(Models, AscendGolden, testing::ValuesIn(configurations()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace longspan
