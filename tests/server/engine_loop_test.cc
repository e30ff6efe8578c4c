#include "server/engine_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "server/scripted_engine.h"
#include "server/soon.h"

namespace longspan::server {
namespace {

class EngineLoopTest : public testing::Test {
 protected:
  // The result of a request of `tokens` tokens.
  void ask(EngineLoop& loop, int32_t tokens) {
    Request request;
    request.prompt = std::vector<int32_t>{1};
    request.sampling.max_tokens = tokens;
    request.on_progress = [](const Progress&) {};
    request.on_token = [](int32_t, const std::string&) {};
    request.on_finish = [this](const Result& result) {
      failed_ += result.error_code.has_value();
      ++finished_;
    };
    loop.submit(std::move(request));
  }

  ScriptedEngine engine_;
  std::atomic<int> finished_{0}, failed_{0}, deaths_{0};
};

TEST_F(EngineLoopTest, ChecksIntegrityAfterEveryStepIfAsked) {
  EngineLoop checks(
      engine_, [this](const Error&) { ++deaths_; }, true);
  ask(checks, 5);
  EXPECT_TRUE(soon([&] { return finished_ == 1; }));
  EXPECT_TRUE(soon([&] { return checks.snapshot().integrity_checks >= 5; }));
  engine_.go = false;
  engine_.contradicts = true;
  ask(checks, 5);
  EXPECT_TRUE(soon([&] { return deaths_ == 1; }));
  EXPECT_EQ(checks.dead()->code(), ErrorCode::kInternal);
  EXPECT_STREQ(checks.dead()->what(), "a page is nobody's");
  EXPECT_TRUE(soon([&] { return finished_ == 2; }));
  EXPECT_EQ(failed_, 1);
  EXPECT_EQ(deaths_, 1);
}

TEST_F(EngineLoopTest, DoesNotCheckUnasked) {
  engine_.contradicts = true;
  EngineLoop loop(engine_, [this](const Error&) { ++deaths_; });
  ask(loop, 5);
  EXPECT_TRUE(soon([&] { return finished_ == 1; }));
  EXPECT_EQ(failed_, 0);
  EXPECT_EQ(loop.snapshot().integrity_checks, 0);
}

}  // namespace
}  // namespace longspan::server
