#include "op_bench.h"

/// Dense multiplies at the geometry of Qwen3-30B-A3B: the stacked query, key and value projection and the
/// output projection.
namespace longspan {
namespace {

void linear(benchmark::State& state, const DeviceOptions& options, int64_t rows, int64_t in, int64_t out) {
  const auto device = make_device(options);
  Arena arena(device->memory());
  OpContext ctx{arena, bench_threads()};
  const std::vector<float> values = random_values(in * out, 1, 0.05f);
  const WeightView view{values.data(), DType::kF32, out, in, in};
  const auto weight = device->ops().pack_linear({&view, 1}, {}, LinearPrecision::kCompute);
  std::vector<float> x = random_values(rows * in, 2), y(static_cast<size_t>(rows * out));
  const Matrix mx{x.data(), DType::kF32, rows, in, in}, my{y.data(), DType::kF32, rows, out, out};
  for (auto _ : state) {
    device->ops().linear(ctx, mx, *weight, my, /*accumulate=*/false);
    benchmark::DoNotOptimize(y.data());
  }
  report_gflops(state, 2.0 * static_cast<double>(rows * in * out), device->ops());
  state.counters["weight_GB/s"] =
      benchmark::Counter(static_cast<double>(weight->bytes) * static_cast<double>(state.iterations()) / 1e9,
                         benchmark::Counter::kIsRate);
}

const bool registered = [] {
  struct Shape {
    const char* name;
    int64_t in, out;
  };
  for (const Shape& s : {Shape{"qkv", 2048, 5120}, Shape{"o", 4096, 2048}})
    for (int64_t rows : {1, 8, 64, 512, 2048})
      for (const DeviceOptions& options : bench_devices())
        register_bench(std::string("linear/") + s.name + "/T:" + std::to_string(rows), options,
                       [=](benchmark::State& state) { linear(state, options, rows, s.in, s.out); });
  return true;
}();

}  // namespace
}  // namespace longspan
