#pragma once

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <memory>

#include "ascend/small_engine.h"
#include "engine/golden_check.h"

namespace longspan::testing_support {

/// A golden model on an engine of the simulator, and how far its results are off. Case: a model and a release
/// of CANN, among others.
template <class Case>
class GoldenOnSimulator : public testing::TestWithParam<Case> {
 protected:
  void submit(const GoldenPrompt& prompt, bool scored) {
    Request request = greedy_request(prompt, scored);
    request.on_finish = [this, &prompt](const Result& result) {
      ++finished_;
      cached_ += result.cached_tokens;
      const GoldenFinding finding = compare_to_golden(prompt, result, bound_);
      EXPECT_EQ(finding.problem, "") << "prompt of " << prompt.ids.size() << " tokens";
      sum_ += finding.sum;
      compared_ += finding.compared;
    };
    engine_->submit(std::move(request));
  }
  void expect_small_mean() const {
    EXPECT_LE(sum_ / static_cast<double>(compared_), 1.5 * golden_.bf16_noise.mean_logprob);
  }

  const Simulator simulator_{this->GetParam().release};
  const SmallModel model_{this->GetParam().model};
  const GoldenModel golden_ = load_golden_model(this->GetParam().model);
  const GoldenBound bound_{.logprob = golden_.bf16_noise.logprob, .router = golden_.bf16_noise.router};
  std::unique_ptr<Engine> engine_;
  size_t finished_ = 0;
  int64_t cached_ = 0;
  double sum_ = 0;
  int64_t compared_ = 0;
};

}  // namespace longspan::testing_support
