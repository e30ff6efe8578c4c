#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "plan/cp_plan.h"

/// Time to plan one step. The arithmetic depends on rows x blocks; filling the per-token lists on the step's
/// tokens, which the counter shows.
namespace longspan {
namespace {

void plan_step(benchmark::State& state, const std::vector<BatchRow>& rows) {
  const auto cp = static_cast<int32_t>(state.range(0));
  int64_t tokens = 0;
  for (const BatchRow& row : rows) tokens += row.new_tokens;
  for (auto _ : state) benchmark::DoNotOptimize(plan_context_parallel(rows, cp, {}));
  state.counters["tokens"] = static_cast<double>(tokens);
}

const bool registered = [] {
  std::vector<BatchRow> decode, prompts, long_prompts, mixed;
  for (int32_t s = 0; s < 32; ++s) {
    decode.push_back({1, 1000 + 37 * s});
    prompts.push_back({32 + s, 128 * (s % 3)});
    long_prompts.push_back({256, 128 * (s % 3)});
    mixed.push_back({s == 0 ? 8192 - 31 : 1, 1000});
  }
  const auto add = [](const std::string& name, const std::vector<BatchRow>& rows) {
    benchmark::RegisterBenchmark(name.c_str(), plan_step, rows)
        ->Arg(1)
        ->Arg(2)
        ->Arg(8)
        ->Unit(benchmark::kMicrosecond);
  };
  add("plan/32_decode_rows/cp", decode);
  add("plan/32_short_prompts/cp", prompts);
  add("plan/32_prompts_of_256/cp", long_prompts);
  add("plan/31_decode_rows_and_a_chunk/cp", mixed);
  add("plan/one_chunk_of_8192/cp", {{8192, 65536}});
  return true;
}();

}  // namespace
}  // namespace longspan
