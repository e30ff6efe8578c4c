#pragma once

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "device/cpu/cpu_features.h"
#include "device/cpu/limits.h"
#include "device/device.h"

namespace longspan {

/// Threads of the op under test. With one (the default) times are that thread's CPU time, so that a busy
/// machine disturbs less.
inline int bench_threads() {
  const char* threads = std::getenv("LONGSPAN_BENCH_THREADS");
  return threads == nullptr ? 1 : std::max(1, std::atoi(threads));
}

/// One thread's peak, measured once.
inline double peak_gflops(DType dtype) {
  static const double f32 = cpu_peak_flops_per_s(DType::kF32, 1) / 1e9;
  static const double bf16 = cpu_peak_flops_per_s(DType::kBF16, 1) / 1e9;
  return dtype == DType::kBF16 ? bf16 : f32;
}

inline double peak_int8_gops() {
  static const double peak = cpu_peak_int8_ops_per_s(1) / 1e9;
  return peak;
}

/// Counters `GFLOP/s` (of all threads) and `peak`, the share of that many threads' measured peak for the
/// arithmetic that the op uses.
inline void report_gflops(benchmark::State& state, double flops_per_iteration, double peak,
                          const std::string& label) {
  using benchmark::Counter;
  const double flops = flops_per_iteration * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = Counter(flops / 1e9, Counter::kIsRate);
  state.counters["peak"] = Counter(flops / 1e9 / (peak * bench_threads()), Counter::kIsRate);
  state.SetLabel(label);
}

inline void report_gflops(benchmark::State& state, double flops_per_iteration, const Ops& ops) {
  const std::string name = ops.name();
  const double peak = name.ends_with(" int8")
                          ? peak_int8_gops()
                          : peak_gflops(name.ends_with(" bf16") ? DType::kBF16 : DType::kF32);
  report_gflops(state, flops_per_iteration, peak, name);
}

inline std::vector<float> random_values(int64_t n, uint32_t seed, float scale = 1.0f) {
  std::vector<float> values(static_cast<size_t>(n));
  std::minstd_rand rng(seed);
  for (float& v : values) v = scale * (static_cast<float>(rng() % 2001) / 1000.0f - 1.0f);
  return values;
}

/// The instruction sets worth comparing here: from AVX2 up.
inline std::vector<DeviceOptions> bench_devices() {
  std::vector<DeviceOptions> result;
  for (Isa isa : available_isas()) {
    if (isa < Isa::kAvx2) continue;
    const std::string name(to_string(isa));
    if (isa <= Isa::kAvx512) result.push_back({.backend = "cpu", .compute = DType::kF32, .isa = name});
    result.push_back({.backend = "cpu", .compute = DType::kBF16, .isa = name});
    result.push_back({.backend = "cpu", .compute = DType::kBF16, .int8 = true, .isa = name});
  }
  return result;
}

/// Registers `run` under a name that ends in the device's compute dtype and instruction set.
template <class F>
void register_bench(const std::string& name, const DeviceOptions& options, F run) {
  const std::string full =
      name + "/" + (options.int8 ? "int8" : std::string(to_string(options.compute))) + "/" + options.isa;
  auto* bench = benchmark::RegisterBenchmark(full.c_str(), run);
  bench->Unit(benchmark::kMicrosecond);
  if (bench_threads() > 1) bench->UseRealTime();
}

}  // namespace longspan
