#include "engine/active_request.h"

#include <gtest/gtest.h>

#include <vector>

#include "schedule/scheduler.h"

namespace longspan {
namespace {

// Progress is told with the time that it took: neither a pause nor what is computed again counts.
TEST(ActiveRequest, APauseIsNoPartOfTheSpeed) {
  const Tokenizer tokenizer = Tokenizer::load(LONGSPAN_SOURCE_DIR "/models/recall-moe");
  std::vector<double> elapsed;
  Request request;
  request.on_progress = [&](const Progress& progress) { elapsed.push_back(progress.elapsed_ms); };
  ActiveRequest active(1, std::move(request), nullptr, /*submitted_ms=*/0, tokenizer, /*cp=*/1);
  const auto sequence = active.start(std::vector<int32_t>(100, 7), /*new_tokens_limit=*/1);
  const auto step = [&](double begin_ms, int32_t from, int32_t to, double end_ms) {
    sequence->computed = from;
    active.note_step_begin(*sequence, begin_ms);
    sequence->computed = to;
    active.note_prefill(*sequence, {}, end_ms);
  };
  step(1000, 0, 30, 1100);
  step(1200, 30, 40, 1300);  // it waited for others, as they do for it
  EXPECT_EQ(elapsed, std::vector<double>({100, 300}));

  ++sequence->preemptions;
  step(5000, 0, 40, 5200);
  EXPECT_EQ(elapsed.size(), 2u) << "nothing new";
  step(5200, 40, 80, 5600);
  EXPECT_EQ(elapsed.back(), 700);

  ++sequence->preemptions;
  step(9000, 0, 100, 9500);  // 20 of 100 tokens are new
  EXPECT_EQ(elapsed.back(), 800);
}

}  // namespace
}  // namespace longspan
