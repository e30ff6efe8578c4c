#pragma once

#include <gtest/gtest.h>

#include <string>

#include "ascend/small_engine.h"

namespace longspan::testing_support {

/// Engines of golden models on the simulator, one model at a time.
class AscendEngine : public testing::Test {
 protected:
  EngineOptions options(const std::string& model, int32_t cp, const char* release = "8.5") {
    write_golden_model(model, folder_.path());
    return small_options(folder_, Simulator(release), cp);
  }
  std::string refusal(const EngineOptions& options) {
    try {
      Engine::open(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported) << error.what();
      return error.what();
    }
    return "accepted";
  }

  TempDir folder_;
};

}  // namespace longspan::testing_support
