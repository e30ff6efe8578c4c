#include <time.h>

#include <algorithm>
#include <numeric>

#include "attention_case.h"
#include "plan/cp_plan.h"

/// Zigzag balance: the attention of every rank of one prompt, each on the same thread, one after the other.
/// `slowest/mean` is the slowest rank's time over the mean of all; `work` the same of the planned work.
namespace longspan {
namespace {

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double slowest_over_mean(const std::vector<double>& of_ranks) {
  const double sum = std::accumulate(of_ranks.begin(), of_ranks.end(), 0.0);
  return *std::max_element(of_ranks.begin(), of_ranks.end()) * static_cast<double>(of_ranks.size()) / sum;
}

void balance(benchmark::State& state, int32_t tokens, int32_t prefix) {
  const auto cp = static_cast<int32_t>(state.range(0));
  const CpPlan plan = plan_context_parallel(std::vector<BatchRow>{{tokens, prefix}}, cp, {});
  AttentionCase attention(available_isas().back(), DType::kBF16, tokens, prefix + tokens, 1);
  std::vector<double> work;
  for (const RankPlan& rank : plan.ranks) work.push_back(static_cast<double>(rank.causal_work));
  std::vector<std::vector<double>> seconds(plan.ranks.size());
  for (auto _ : state) {
    for (size_t r = 0; r < plan.ranks.size(); ++r) {
      const double start = thread_seconds();
      attention.run(plan.ranks[r].segments);
      seconds[r].push_back(thread_seconds() - start);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& samples : seconds) {
    std::nth_element(samples.begin(), samples.begin() + std::ssize(samples) / 2, samples.end());
    medians.push_back(samples[samples.size() / 2]);
  }
  state.counters["slowest/mean"] = slowest_over_mean(medians);
  state.counters["work"] = slowest_over_mean(work);
}

const bool registered = [] {
  for (const auto& [name, tokens, prefix] : {std::tuple("balance/chunk_of_8192/cp", 8192, 0),
                                             std::tuple("balance/chunk_of_8192_after_24576/cp", 8192, 24576),
                                             std::tuple("balance/prompt_of_1000/cp", 1000, 0)}) {
    benchmark::RegisterBenchmark(name, balance, tokens, prefix)
        ->Arg(2)
        ->Arg(3)
        ->Arg(4)
        ->Arg(8)
        ->Unit(benchmark::kMillisecond)
        ->Iterations(5);
  }
  return true;
}();

}  // namespace
}  // namespace longspan
