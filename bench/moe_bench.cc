#include "op_bench.h"

/// Experts at the geometry of Qwen3-30B-A3B: hidden 2048, 128 experts of width 768, 8 per row.
namespace longspan {
namespace {

constexpr int64_t kHidden = 2048, kWidth = 768, kChoices = 8;
constexpr int32_t kExperts = 128;

void experts(benchmark::State& state, const DeviceOptions& options, int64_t rows_per_expert) {
  const auto device = make_device(options);
  Arena arena(device->memory());
  OpContext ctx{arena, bench_threads()};
  const std::vector<float> up = random_values(kWidth * kHidden, 1, 0.05f),
                           down = random_values(kWidth * kHidden, 2, 0.05f);
  const WeightView up_view{up.data(), DType::kF32, kWidth, kHidden, kHidden};
  const WeightView down_view{down.data(), DType::kF32, kHidden, kWidth, kWidth};
  const std::vector<ExpertSource> sources(kExperts, {up_view, up_view, down_view});
  const auto packed = device->ops().pack_experts(sources, 0, nullptr);

  const int64_t rows = rows_per_expert * kExperts / kChoices;
  std::vector<float> x = random_values(rows * kHidden, 3), out(x.size()),
                     weights(static_cast<size_t>(rows * kChoices), 0.125f);
  std::vector<int32_t> ids(weights.size());
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>((i * 37 + i / kExperts * 5) % kExperts);
  const auto matrix = [&](auto& data, DType dtype, int64_t cols) {
    return Matrix{data.data(), dtype, rows, cols, cols};
  };
  for (auto _ : state) {
    device->ops().moe_experts(ctx, matrix(x, DType::kF32, kHidden), matrix(ids, DType::kI32, kChoices),
                              matrix(weights, DType::kF32, kChoices), *packed,
                              matrix(out, DType::kF32, kHidden));
    benchmark::DoNotOptimize(out.data());
  }
  report_gflops(state, 6.0 * static_cast<double>(rows * kChoices * kHidden * kWidth), device->ops());
  state.counters["arena_MB"] = static_cast<double>(arena.peak_bytes()) / 1e6;
}

const bool registered = [] {
  for (int64_t rows : {1, 16, 32, 64, 128, 512})
    for (const DeviceOptions& options : bench_devices())
      register_bench("moe/rows_per_expert:" + std::to_string(rows), options,
                     [=](benchmark::State& state) { experts(state, options, rows); });
  return true;
}();

}  // namespace
}  // namespace longspan
