// Golden models under layouts: tokens and log-probabilities of transformers, however heads, widths, experts,
// vocabulary and rows are spread. By default a few layouts a model, with FULL_TESTS=1 every legal
// one of 2, 3 and 4 ranks and a sample of 6 and 8.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <cstdlib>
#include <string_view>

#include "checkpoint/model_config.h"
#include "engine/golden_check.h"
#include "model/layout_model.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using namespace testing_support;

struct Case {
  std::string model;
  LayoutOptions layout;
  bool share_kv;

  std::string name() const {
    return fmt::format("{}_tp{}_cp{}_moedp{}_ep{}_{}", model, layout.tp, layout.cp, layout.moe_dp, layout.ep,
                       share_kv ? "shared" : "gathered");
  }
};

LayoutModel model_of(const std::string& name) {
  return layout_model(load_model_config(std::string(LONGSPAN_SOURCE_DIR) + "/tests/golden/models/" + name));
}

bool is_legal(const LayoutOptions& options, const LayoutModel& model) {
  try {
    make_layout(options, model);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<LayoutOptions> legal_layouts(const LayoutModel& model, int32_t tp) {
  std::vector<LayoutOptions> legal;
  for (int32_t cp = 1; cp <= tp; ++cp)
    for (int32_t moe_dp = 1; moe_dp <= cp; ++moe_dp)
      for (int32_t ep = 1; ep <= tp; ++ep) {
        const LayoutOptions options{.tp = tp, .cp = cp, .moe_dp = moe_dp, .ep = ep};
        // To a dense model moe_dp means nothing.
        if ((model.experts > 0 || moe_dp == cp) && is_legal(options, model)) legal.push_back(options);
      }
  return legal;
}

std::vector<Case> cases() {
  const char* set = std::getenv("FULL_TESTS");
  const bool full = set && std::string_view(set) == "1";
  std::vector<Case> list;
  size_t dealt = 0;
  for (const std::string& name : golden_model_names()) {
    const LayoutModel model = model_of(name);
    for (const int32_t tp : {2, 3, 4, 6, 8}) {
      const std::vector<LayoutOptions> legal = legal_layouts(model, tp);
      const bool all = full && tp <= 4;
      const size_t count = all ? legal.size() : std::min<size_t>(legal.size(), full ? 4 : tp == 4 ? 2 : 1);
      const size_t offset = dealt;
      for (size_t i = 0; i < count; ++i) {
        const LayoutOptions& layout = legal[all ? i : (i * legal.size() / count + offset) % legal.size()];
        list.push_back({name, layout, dealt++ % 3 != 0});
        if (all) list.push_back({name, layout, !list.back().share_kv});
      }
    }
  }
  return list;
}

void expect_goldens(const Case& test) {
  const GoldenModel model = load_golden_model(test.model);
  TempDir folder;
  write_golden_model(test.model, folder.path());
  EngineOptions options;
  options.model = folder.path().string();
  options.dtype = ComputeType::kF32;
  options.layout = test.layout;
  options.share_kv = test.share_kv;
  options.page_size = 16;
  options.chunked_prefill_size = 64;
  options.max_total_tokens = 2048;
  options.threads = 1;  // one per rank: ThreadSanitizer does not see libgomp's barriers
  const auto engine = Engine::open(options);
  const GoldenBound bound = f32_golden_bound(model);
  size_t finished = 0;
  for (const GoldenPrompt& prompt : model.prompts) {
    Request request = greedy_request(prompt, /*scored=*/true);
    request.on_finish = [&](const Result& result) {
      ++finished;
      EXPECT_EQ(compare_to_golden(prompt, result, bound).problem, "")
          << "prompt of " << prompt.ids.size() << " tokens";
    };
    engine->submit(std::move(request));
  }
  engine->run();
  EXPECT_EQ(finished, model.prompts.size());
  engine->check_integrity();
}

class GoldenLayouts : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Models, GoldenLayouts, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name(); });

TEST_P(GoldenLayouts, MatchTheOracle) {
  expect_goldens(GetParam());
}

// --tp-size 4 --moe-dp-size 2 --attn-cp-size 2, what serving engineers run with Qwen3-30B-A3B.
TEST(GoldenLayout, TheServingLayout) {
  expect_goldens({"qwen3_moe_wide_heads", {.tp = 4, .cp = 2, .moe_dp = 2}, true});
}

}  // namespace
}  // namespace longspan
