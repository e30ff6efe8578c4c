// What a step may cost: mistakes that give right tokens too, only later.

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <atomic>
#include <chrono>

#include "device/cpu/cpu_ops.h"
#include "engine/open.h"
#include "support/device_with_ops.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

constexpr int32_t kLayers = 3, kVocab = 300;  // of the model llama_llama3

struct Counts {
  std::atomic<int> attention_calls = 0;  // of all ranks
  std::atomic<int64_t> logit_rows = 0;
};

class CountingOps : public CpuOps {
 public:
  explicit CountingOps(Counts& counts)
      : CpuOps(DType::kF32, /*int8=*/false, Isa::kPortable), counts_(counts) {}
  void attention(OpContext& ctx, const AttentionArgs& args) override {
    ++counts_.attention_calls;
    CpuOps::attention(ctx, args);
  }
  void linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) override {
    if (w.out_features == kVocab) counts_.logit_rows += x.rows;
    CpuOps::linear(ctx, x, w, out, accumulate);
  }

 private:
  Counts& counts_;
};

/// One launch a layer and rank over all segments, prev and next halves, prefixes and decode rows together;
/// and logits for the one row of each sequence that needs them, though all hidden rows are there.
TEST(StepCost, OneAttentionLaunchALayerAndOneLogitRowASequence) {
  testing_support::TempDir folder;
  testing_support::write_golden_model("llama_llama3", folder.path());
  EngineOptions options;
  options.model = folder.path().string();
  options.layout.cp = 2;
  options.min_tokens_per_rank = 0;
  options.dtype = ComputeType::kF32;
  options.page_size = 16;
  options.max_total_tokens = 1024;
  options.chunked_prefill_size = 64;
  options.threads = 1;
  Counts counts;
  const auto engine = open_engine(
      options, std::make_unique<testing_support::DeviceWithOps>(std::make_unique<CountingOps>(counts)),
      [] { return 0.0; });
  int finished = 0;
  const auto submit = [&](int32_t length) {
    Request request;
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < length; ++i) ids.push_back((i * 37 + length) % 256);
    request.prompt = ids;
    request.sampling.max_tokens = 3;
    request.sampling.ignore_eos = true;
    request.on_finish = [&](const Result& result) {
      EXPECT_FALSE(result.error_code) << result.error_message;
      ++finished;
    };
    engine->submit(std::move(request));
  };
  struct Step {
    int attention_calls;
    int64_t logit_rows;
  };
  std::vector<Step> steps;
  const auto step = [&] {
    counts.attention_calls = 0;
    counts.logit_rows = 0;
    const bool more = engine->step();
    if (counts.attention_calls > 0) steps.push_back({counts.attention_calls, counts.logit_rows});
    return more;
  };
  submit(9);
  step();
  submit(150);  // three chunks, the later ones beside a prefix, all beside decode rows
  submit(5);
  while (step()) {
  }
  EXPECT_EQ(finished, 3);
  ASSERT_GE(steps.size(), 5u);
  int64_t logit_rows = 0;
  bool both_ranks = false;
  for (const Step& s : steps) {
    EXPECT_TRUE(s.attention_calls == kLayers || s.attention_calls == 2 * kLayers) << s.attention_calls;
    both_ranks = both_ranks || s.attention_calls == 2 * kLayers;
    EXPECT_LE(s.logit_rows, 3);
    logit_rows += s.logit_rows;
  }
  EXPECT_TRUE(both_ranks);
  EXPECT_EQ(logit_rows, 3 * 3) << "one row a generated token";
}

}  // namespace
}  // namespace longspan
