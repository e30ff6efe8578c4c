// EngineOptions::max_step_ms, on a clock that the device moves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <atomic>
#include <memory>

#include "device/reference/reference_ops.h"
#include "engine/open.h"
#include "support/device_with_ops.h"

namespace longspan {
namespace {

/// A token takes a millisecond.
class TimedOps final : public ReferenceOps {
 public:
  explicit TimedOps(std::atomic<int>& ms) : ReferenceOps(DType::kF32), ms_(ms) {}
  void attention(OpContext& ctx, const AttentionArgs& args) override {
    if (args.layer == 0) ms_ += static_cast<int>(args.q.rows);
    ReferenceOps::attention(ctx, args);
  }

 private:
  std::atomic<int>& ms_;
};

/// Prompt tokens of each step in which a long prompt is computed while another request generates.
std::vector<int32_t> chunks(double max_step_ms) {
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.dtype = ComputeType::kF32;
  options.page_size = 16;
  options.max_total_tokens = 1024;
  options.chunked_prefill_size = 128;
  options.threads = 1;
  options.max_step_ms = max_step_ms;
  std::atomic<int> ms = 0;
  const auto engine =
      open_engine(options, std::make_unique<testing_support::DeviceWithOps>(std::make_unique<TimedOps>(ms)),
                  [&] { return static_cast<double>(ms); });
  Request answering;
  answering.prompt = std::vector<int32_t>(20, 300);
  answering.sampling = {.max_tokens = 300, .ignore_eos = true};
  const RequestId first = engine->submit(std::move(answering));
  for (int i = 0; i < 3; ++i) engine->step();

  std::vector<int32_t> sizes;
  bool done = false;
  Request late;
  late.prompt = std::vector<int32_t>(200, 301);
  late.sampling.max_tokens = 0;
  late.on_progress = [&, before = 0](const Progress& progress) mutable {
    sizes.push_back(progress.processed - std::exchange(before, progress.processed));
  };
  late.on_finish = [&](const Result&) { done = true; };
  engine->submit(std::move(late));
  while (!done) engine->step();
  engine->cancel(first);
  engine->run();
  return sizes;
}

TEST(StepTime, ChunksBesideAnAnswerKeepToTheLimit) {
  EXPECT_THAT(chunks(40.5), testing::ElementsAre(39, 39, 39, 39, 39, 5));
  EXPECT_THAT(chunks(0), testing::ElementsAre(127, 73));
}

}  // namespace
}  // namespace longspan
