// The timeline of a step by the simulator's model of time: that the gather travels beside the q projection.

#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "ascend/small_engine.h"

namespace longspan {
namespace {

using testing_support::prompt_of;
using testing_support::Simulator;
using testing_support::SmallModel;
using testing_support::TempDir;

struct Bar {
  std::string name, kind;
  int row;
  double begin, end, flops;
};

// Of each device in the order of time.
std::map<int, std::vector<Bar>> bars_of(const std::string& path) {
  std::map<int, std::vector<Bar>> result;
  const auto trace = nlohmann::json::parse(std::ifstream(path));
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph").get<std::string>() != "X") continue;
    const auto begin = event.at("ts").get<double>();
    result[event.at("pid").get<int>()].push_back({.name = event.at("name").get<std::string>(),
                                                  .kind = event.at("cat").get<std::string>(),
                                                  .row = event.at("tid").get<int>(),
                                                  .begin = begin,
                                                  .end = begin + event.at("dur").get<double>(),
                                                  .flops = event.at("args").at("flops").get<double>()});
  }
  for (auto& [device, bars] : result)
    std::ranges::stable_sort(bars, [](const Bar& a, const Bar& b) { return a.begin < b.begin; });
  return result;
}

double overlap(const Bar& a, const Bar& b) {
  return std::min(a.end, b.end) - std::max(a.begin, b.begin);
}

// Of the engine's next step.
auto bars_of_step(const Simulator& simulator, Engine& engine) {
  const TempDir folder;
  const std::string path = (folder.path() / "trace.json").string();
  simulator.record(true);
  engine.step();
  simulator.write_trace(path);
  simulator.record(false);
  return bars_of(path);
}

TEST(AscendTrace, TheGatherTravelsBesideTheQProjection) {
  const Simulator simulator("8.5");
  const SmallModel model("qwen3_moe_wide_heads");
  const auto engine = Engine::open(model.options(simulator, 2, true));
  engine->submit(prompt_of(300));
  simulator.reset_counts();
  const auto devices = bars_of_step(simulator, *engine);
  ASSERT_EQ(devices.size(), 2u);
  // Rows, hidden, heads, head dim: the q projection (o_proj multiplies as much, behind the gather).
  constexpr double kQ = 2.0 * 150 * 64 * 8 * 128;
  constexpr double kRounding = 1e-5;  // microseconds
  uint64_t launches = 0;
  for (const auto& [device, bars] : devices) {
    std::map<int, double> ends;
    size_t gathers = 0;
    for (const Bar& bar : bars) {
      launches += bar.kind == "launch";
      if (bar.row < 10000) {
        EXPECT_GE(bar.begin, ends[bar.row] - kRounding) << bar.name << " on stream " << bar.row;
        ends[bar.row] = bar.end;
      }
      if (bar.kind != "collective") continue;
      ++gathers;
      const auto beside = std::ranges::find_if(bars, [&](const Bar& other) {
        return other.name == "aclnnMm" && other.flops == kQ && other.row != bar.row &&
               overlap(bar, other) > 0;
      });
      ASSERT_NE(beside, bars.end()) << "no q projection while " << bar.name << " travels";
      EXPECT_NEAR(overlap(bar, *beside), beside->end - beside->begin, kRounding) << "all of it";
    }
    EXPECT_EQ(gathers, 3u) << "one a layer";
  }
  EXPECT_EQ(launches, simulator.count("launch")) << "each once";
}

// With sharded KV this step's keys are attended to while earlier ones, or queries, are on their way.
TEST(AscendTrace, EarlierKeysTravelBesideAttention) {
  const Simulator simulator("8.5");
  const SmallModel model("qwen3_moe_wide_heads");
  for (const auto& [exchange, collectives] :
       {std::pair(ShardExchange::kGatherKv, 2), {ShardExchange::kRing, 2}, {ShardExchange::kGatherQ, 3}}) {
    EngineOptions options = model.options(simulator, 2, true);
    options.shard_kv = true;
    options.shard_exchange = exchange;
    options.chunked_prefill_size = 256;
    const auto engine = Engine::open(options);
    engine->submit(prompt_of(400));
    engine->step();
    const auto devices = bars_of_step(simulator, *engine);
    ASSERT_EQ(devices.size(), 2u);
    for (const auto& [device, bars] : devices) {
      int seen = 0;
      for (const Bar& bar : bars) {
        if (bar.kind != "collective" || seen++ % collectives != 1) continue;  // behind the new rows'
        EXPECT_TRUE(std::ranges::any_of(bars,
                                        [&](const Bar& other) {
                                          return other.name == "aclnnFusedInferAttentionScoreV3" &&
                                                 other.row != bar.row && overlap(bar, other) > 0;
                                        }))
            << "no attention while " << bar.name << " travels";
      }
      EXPECT_EQ(seen, 3 * collectives);
    }
  }
}

// Ranks meet in a collective: on both cards it has the same time.
TEST(AscendTrace, ACollectiveHasOneTimeOnAllCards) {
  const Simulator simulator("9.0");
  const SmallModel model("qwen3_moe_wide_heads");
  const TempDir folder;
  const std::string path = (folder.path() / "trace.json").string();
  {
    const auto engine = Engine::open(model.options(simulator, 3, true));
    engine->submit(prompt_of(100));
    simulator.record(true);
    engine->step();
    simulator.write_trace(path);
    simulator.record(false);
  }
  std::vector<std::vector<std::pair<double, double>>> times;
  for (const auto& [device, bars] : bars_of(path)) {
    times.emplace_back();
    for (const Bar& bar : bars)
      if (bar.kind == "collective") times.back().emplace_back(bar.begin, bar.end);
  }
  ASSERT_EQ(times.size(), 3u);
  EXPECT_EQ(times[0].size(), 3u);
  EXPECT_EQ(times[0], times[1]);
  EXPECT_EQ(times[0], times[2]);
}

}  // namespace
}  // namespace longspan
