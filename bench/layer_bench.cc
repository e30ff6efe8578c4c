#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device/cpu/cpu_ops.h"
#include "engine/open.h"
#include "support/device_with_ops.h"

/// What a layer costs beside its kernels: the time of a whole prefill of the model in the box less the time
/// spent in ops, by layers. Planning, scheduling and logits of the step are in it.
namespace longspan {
namespace {

constexpr int kLayers = 4;  // of the model

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// The ops on CPU cores, with the time spent in them. One rank.
class TimedOps final : public CpuOps {
 public:
  TimedOps(DType compute, Isa isa) : CpuOps(compute, /*int8=*/false, isa) {}
  double spent_ms() const { return spent_ms_; }

  void embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) override {
    timed([&] { CpuOps::embedding(ctx, ids, table, out); });
  }
  void rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) override {
    timed([&] { CpuOps::rms_norm(ctx, x, weight, eps, out); });
  }
  void linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) override {
    timed([&] { CpuOps::linear(ctx, x, w, out, accumulate); });
  }
  void rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                  Matrix cos_sin) override {
    timed([&] { CpuOps::rope_table(ctx, positions, inv_freq, factor, cos_sin); });
  }
  void qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) override {
    timed([&] { CpuOps::qk_norm_rope(ctx, args); });
  }
  void kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) override {
    timed([&] { CpuOps::kv_write(ctx, pool, layer, k, v, to); });
  }
  void attention(OpContext& ctx, const AttentionArgs& args) override {
    timed([&] { CpuOps::attention(ctx, args); });
  }
  void moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) override {
    timed([&] { CpuOps::moe_route(ctx, logits, normalize, ids, weights); });
  }
  void moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                   Matrix out) override {
    timed([&] { CpuOps::moe_experts(ctx, x, ids, weights, experts, out); });
  }

 private:
  template <class F>
  void timed(F&& op) {
    const double start = milliseconds();
    op();
    spent_ms_ += milliseconds() - start;
  }
  double spent_ms_ = 0;
};

void layers(benchmark::State& state) {
  const auto tokens = static_cast<int32_t>(state.range(0));
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.threads = static_cast<int32_t>(state.range(1));
  options.max_total_tokens = 4 * tokens;
  options.prefix_cache = false;
  auto timed = std::make_unique<TimedOps>(DType::kBF16, available_isas().back());
  const TimedOps& ops = *timed;
  const auto engine =
      open_engine(options, std::make_unique<testing_support::DeviceWithOps>(std::move(timed)), milliseconds);
  Request request;
  request.prompt = std::vector<int32_t>(static_cast<size_t>(tokens), 7);
  request.sampling.max_tokens = 1;
  request.sampling.ignore_eos = true;
  engine->generate(request);  // warm

  double whole_ms = 0, ops_ms = -ops.spent_ms();
  for (auto _ : state) whole_ms += engine->generate(request).prefill_ms;
  ops_ms += ops.spent_ms();
  const auto steps = static_cast<double>(state.iterations());
  state.counters["ops_ms"] = ops_ms / steps;
  state.counters["beside_us_a_layer"] = 1e3 * (whole_ms - ops_ms) / steps / kLayers;
}

BENCHMARK(layers)->ArgsProduct({{128, 1024, 8192}, {1, 2}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace longspan
