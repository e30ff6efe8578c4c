#include "engine/golden_layouts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/model_config.h"
#include "engine/golden_check.h"
#include "model/layout_model.h"

namespace longspan::testing_support {
namespace {

bool is_legal(const LayoutOptions& options, const LayoutModel& model) {
  try {
    make_layout(options, model);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string LayoutCase::name() const {
  constexpr const char* kShards[] = {"sharded", "sharded_gather_kv", "sharded_gather_q", "sharded_ring"};
  return fmt::format("{}_tp{}_cp{}_moedp{}_ep{}_{}", model, layout.tp, layout.cp, layout.moe_dp, layout.ep,
                     shard      ? kShards[static_cast<int>(*shard)]
                     : share_kv ? "shared"
                                : "gathered");
}

ShardExchange nth_shard_exchange(size_t n) {
  constexpr ShardExchange kAll[] = {ShardExchange::kGatherKv, ShardExchange::kRing, ShardExchange::kGatherQ,
                                    ShardExchange::kAuto};
  return kAll[n % std::size(kAll)];
}

LayoutModel layout_model_of(const std::string& golden_model) {
  return layout_model(
      load_model_config(std::string(LONGSPAN_SOURCE_DIR) + "/tests/golden/models/" + golden_model));
}

std::vector<LayoutOptions> legal_layouts(const LayoutModel& model, int32_t tp) {
  std::vector<LayoutOptions> legal;
  for (int32_t cp = 1; cp <= tp; ++cp)
    for (int32_t moe_dp = 1; moe_dp <= cp; ++moe_dp)
      for (int32_t ep = 1; ep <= tp; ++ep) {
        const LayoutOptions options{.tp = tp, .cp = cp, .moe_dp = moe_dp, .ep = ep};
        if ((model.experts > 0 || moe_dp == cp) && is_legal(options, model)) legal.push_back(options);
      }
  return legal;
}

EngineOptions golden_options(const LayoutCase& test, const std::filesystem::path& folder) {
  EngineOptions options;
  options.model = folder.string();
  options.dtype = ComputeType::kF32;
  options.layout = test.layout;
  options.min_tokens_per_rank = 0;
  options.share_kv = test.share_kv;
  options.shard_kv = test.shard.has_value();
  options.shard_exchange = test.shard.value_or(ShardExchange::kAuto);
  options.page_size = 16;
  options.chunked_prefill_size = 64;
  options.max_total_tokens = 2048;
  options.threads = 1;  // one per rank: ThreadSanitizer does not see libgomp's barriers
  return options;
}

void expect_goldens(Engine& engine, const GoldenModel& model) {
  const GoldenBound bound = f32_golden_bound(model);
  size_t finished = 0;
  for (const GoldenPrompt& prompt : model.prompts) {
    Request request = greedy_request(prompt, /*scored=*/true);
    request.on_finish = [&](const Result& result) {
      ++finished;
      EXPECT_EQ(compare_to_golden(prompt, result, bound).problem, "")
          << "prompt of " << prompt.ids.size() << " tokens";
    };
    engine.submit(std::move(request));
  }
  engine.run();
  EXPECT_EQ(finished, model.prompts.size());
  engine.check_integrity();
}

}  // namespace longspan::testing_support
