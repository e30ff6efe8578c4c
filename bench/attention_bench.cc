#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "device/cpu/attention.h"
#include "device/cpu/kv_pages.h"
#include "device/host_memory.h"
#include "op_bench.h"

/// Attention at the geometry of Qwen3-30B-A3B (32 query heads, 4 kv heads, 128), causal, one thread unless
/// LONGSPAN_BENCH_THREADS says otherwise. GFLOP/s counts both multiplies and no masked half; `peak` is its
/// share of a big oneDNN multiply of the same dtype in the same run.
namespace longspan {
namespace {

constexpr int32_t kHeadsQ = 32, kHeadsKv = 4, kDim = 128, kPage = 128;

/// `sequences` segments, each the last `q_len` rows of a sequence of `kv_len` tokens.
void attention(benchmark::State& state, Isa isa, DType dtype, int32_t q_len, int32_t kv_len,
               int32_t sequences) {
  HostMemory memory;
  Arena arena(memory);
  OpContext ctx{arena, 1};

  const int32_t pages = (kv_len + kPage - 1) / kPage;
  auto pool = make_cpu_kv_pool({1, pages * sequences + 1, kPage, kHeadsKv, kDim, kHeadsKv, kDim}, dtype);
  std::vector<int32_t> table(static_cast<size_t>(pages * sequences));
  std::iota(table.begin(), table.end(), 1);
  std::vector<float> rows(static_cast<size_t>(kPage * kHeadsKv * kDim));
  std::vector<int32_t> slots(kPage);
  for (int32_t page : table) {
    for (size_t i = 0; i < rows.size(); ++i)
      rows[i] = std::sin(static_cast<float>(i) * 0.37f + static_cast<float>(page));
    std::iota(slots.begin(), slots.end(), page * kPage);
    const Matrix kv{rows.data(), DType::kF32, kPage, kHeadsKv * kDim, kHeadsKv * kDim};
    cpu_kv_write(ctx, *pool, 0, kv, kv, {slots.data(), slots.data(), kPage});
  }

  const int32_t total_rows = q_len * sequences, cols = kHeadsQ * kDim;
  std::vector<float> q(static_cast<size_t>(total_rows) * cols), out(q.size());
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::cos(static_cast<float>(i) * 0.11f);
  std::vector<Segment> segments;
  for (int32_t s = 0; s < sequences; ++s) segments.push_back({s * q_len, q_len, s, kv_len, true});
  AttentionArgs args;
  args.q = {q.data(), DType::kF32, total_rows, cols, cols};
  args.pool = pool.get();
  args.segments = segments;
  args.block_table = {{table.data(), table.data(), static_cast<int64_t>(table.size())}, sequences, pages};
  args.heads_q = kHeadsQ;
  args.scale = 1.0f / std::sqrt(static_cast<float>(kDim));
  args.out = {out.data(), DType::kF32, total_rows, cols, cols};

  for (auto _ : state) cpu_attention(ctx, args, isa);

  const double keys = q_len * (kv_len - (q_len - 1) / 2.0) * sequences;
  const double gflop = keys * kHeadsQ * 4.0 * kDim / 1e9;
  const double kv_gb = static_cast<double>(kv_len) * sequences * kHeadsKv * 2 * kDim *
                       static_cast<double>(size_of(dtype)) / 1e9;
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
      for (int32_t kv_len : {4096, 8192, 32768}) {
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
