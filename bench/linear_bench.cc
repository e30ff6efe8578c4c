#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

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

/// The same product by oneDNN: packed weights, f32 rows rounded to the compute dtype, f32 out.
void onednn(benchmark::State& state, DType dtype, int64_t rows, int64_t in, int64_t out) {
  omp_set_num_threads(bench_threads());
  using dnnl::memory;
  const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc x_desc({rows, in}, memory::data_type::f32, memory::format_tag::ab);
  const memory::desc src_desc({rows, in}, type, memory::format_tag::ab);
  const memory::desc dst_desc({rows, out}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc pd(
      dnnl::matmul::desc(src_desc, memory::desc({in, out}, type, memory::format_tag::any), dst_desc), engine);
  dnnl::matmul matmul(pd);
  std::vector<float> x_values = random_values(rows * in, 2), w_values = random_values(in * out, 1, 0.05f);
  memory x(x_desc, engine, x_values.data()), src(src_desc, engine), dst(dst_desc, engine);
  memory w(memory::desc({in, out}, memory::data_type::f32, memory::format_tag::ba), engine, w_values.data());
  memory packed(pd.weights_desc(), engine);
  dnnl::reorder(w, packed).execute(stream, w, packed);
  dnnl::reorder round(x, src);
  for (auto _ : state) {
    if (dtype == DType::kBF16) round.execute(stream, x, src);
    matmul.execute(
        stream,
        {{DNNL_ARG_SRC, dtype == DType::kBF16 ? src : x}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, dst}});
    stream.wait();
  }
  report_gflops(state, 2.0 * static_cast<double>(rows * in * out), peak_gflops(dtype), "oneDNN");
}

const bool registered = [] {
  struct Shape {
    const char* name;
    int64_t in, out;
  };
  for (const Shape& s : {Shape{"qkv", 2048, 5120}, Shape{"o", 4096, 2048}})
    for (int64_t rows : {1, 8, 64, 512, 2048}) {
      const std::string name = std::string("linear/") + s.name + "/T:" + std::to_string(rows);
      for (const DeviceOptions& options : bench_devices())
        register_bench(name, options,
                       [=](benchmark::State& state) { linear(state, options, rows, s.in, s.out); });
      for (const DType dtype : {DType::kF32, DType::kBF16})
        register_bench(name, {.backend = "cpu", .compute = dtype, .isa = "onednn"},
                       [=](benchmark::State& state) { onednn(state, dtype, rows, s.in, s.out); });
    }
  return true;
}();

}  // namespace
}  // namespace longspan
