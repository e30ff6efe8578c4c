#include <string>

#include "attention_case.h"

/// Attention at the geometry of Qwen3-30B-A3B (32 query heads, 4 kv heads, 128), causal, one thread unless
/// LONGSPAN_BENCH_THREADS says otherwise. GFLOP/s counts both multiplies and no masked half; `peak` is its
/// share of a big oneDNN multiply of the same dtype in the same run.
namespace longspan {
namespace {

/// `sequences` segments, each the last `q_len` rows of a sequence of `kv_len` tokens.
void attention(benchmark::State& state, Isa isa, DType dtype, int32_t q_len, int32_t kv_len,
               int32_t sequences) {
  AttentionCase attention(isa, dtype, q_len, kv_len, sequences);
  std::vector<Segment> segments;
  for (int32_t s = 0; s < sequences; ++s) segments.push_back({s * q_len, q_len, s, kv_len, true});
  for (auto _ : state) attention.run(segments);

  const double keys = q_len * (kv_len - (q_len - 1) / 2.0) * sequences;
  const double gflop = keys * AttentionCase::kHeadsQ * 4.0 * AttentionCase::kDim / 1e9;
  const double kv_gb = static_cast<double>(kv_len) * sequences * AttentionCase::kHeadsKv * 2 *
                       AttentionCase::kDim * static_cast<double>(size_of(dtype)) / 1e9;
  using benchmark::Counter;
  const auto rate = Counter::kIsIterationInvariantRate;
  state.counters["GFLOP/s"] = Counter(gflop, rate);
  state.counters["peak"] = Counter(gflop / peak_gflops(dtype), rate);
  state.counters["KV GB/s"] = Counter(kv_gb, rate);
}

const bool registered = [] {
  for (Isa isa : available_isas()) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const std::string way = std::string(to_string(isa)) + "/" + std::string(to_string(dtype));
      const auto add = [&](const std::string& name, int32_t q_len, int32_t kv_len, int32_t sequences) {
        benchmark::RegisterBenchmark((way + name).c_str(), [=](benchmark::State& state) {
          attention(state, isa, dtype, q_len, kv_len, sequences);
        })->Unit(benchmark::kMillisecond);
      };
      for (int32_t kv_len : {4096, 8192, 32768, 65536}) {
        add("/last512of" + std::to_string(kv_len), 512, kv_len, 1);
      }
      add("/whole4096", 4096, 4096, 1);
      add("/decode4x8192", 1, 8192, 4);
    }
  }
  return true;
}();

}  // namespace
}  // namespace longspan
