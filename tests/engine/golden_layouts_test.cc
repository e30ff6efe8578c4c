// Golden models under layouts: tokens and log-probabilities of transformers, however heads, widths, experts,
// vocabulary and rows are spread. By default a few layouts a model, with FULL_TESTS=1 every legal
// one of 2, 3 and 4 ranks and a sample of 6 and 8; KV shared, gathered and sharded.

#include "engine/golden_layouts.h"

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace longspan {
namespace {

using namespace testing_support;

std::vector<LayoutCase> cases() {
  const bool full = full_tests();
  std::vector<LayoutCase> list;
  size_t dealt = 0, exchange = 0;
  for (const std::string& name : golden_model_names()) {
    const LayoutModel model = layout_model_of(name);
    bool sharded = false;
    for (const int32_t tp : {2, 3, 4, 6, 8}) {
      const std::vector<LayoutOptions> legal = legal_layouts(model, tp);
      const bool all = full && tp <= 4;
      const size_t count = all ? legal.size() : std::min<size_t>(legal.size(), full ? 4 : tp == 4 ? 2 : 1);
      const size_t offset = dealt;
      for (size_t i = 0; i < count; ++i) {
        const LayoutOptions& layout = legal[all ? i : (i * legal.size() / count + offset) % legal.size()];
        list.push_back({name, layout, dealt++ % 3 != 0});
        if (all) list.push_back({name, layout, !list.back().share_kv});
        // Every exchange meets layouts with and without split heads; by default one a model.
        if (layout.cp > 1 && (full || (!sharded && dealt % 2 == 0))) {
          list.push_back({name, layout, false, nth_shard_exchange(exchange++)});
          sharded = true;
        }
      }
    }
  }
  return list;
}

void expect_goldens(const LayoutCase& test) {
  TempDir folder;
  write_golden_model(test.model, folder.path());
  const auto engine = Engine::open(golden_options(test, folder.path()));
  testing_support::expect_goldens(*engine, load_golden_model(test.model));
}

class GoldenLayouts : public testing::TestWithParam<LayoutCase> {};
INSTANTIATE_TEST_SUITE_P(Models, GoldenLayouts, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name(); });

TEST_P(GoldenLayouts, MatchTheOracle) {
  expect_goldens(GetParam());
}

// --tp-size 4 --moe-dp-size 2 --attn-cp-size 2, what serving engineers run with Qwen3-30B-A3B.
TEST(GoldenLayout, TheServingLayout) {
  expect_goldens({"qwen3_moe_wide_heads", {.tp = 4, .cp = 2, .moe_dp = 2}, true});
}

TEST(GoldenLayout, TheServingLayoutWithKvSharded) {
  for (size_t n = 0; n < 4; ++n)
    expect_goldens({"qwen3_moe_wide_heads", {.tp = 4, .cp = 2, .moe_dp = 2}, false, nth_shard_exchange(n)});
}

}  // namespace
}  // namespace longspan
