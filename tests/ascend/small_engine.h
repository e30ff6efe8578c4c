#pragma once

#include <longspan/engine.h>
#include <longspan/error.h>

#include <optional>
#include <string>

#include "ascend/simulator.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan::testing_support {

/// To open the model in a folder on a release of the simulator.
inline EngineOptions small_options(const TempDir& folder, const Simulator& simulator, int32_t cp) {
  EngineOptions options;
  options.model = folder.path().string();
  options.backend = "ascend";
  options.ascend.home = simulator.home();
  options.dtype = ComputeType::kBF16;
  options.layout.cp = cp;
  options.min_tokens_per_rank = 0;
  options.max_total_tokens = 4096;
  options.threads = 1;
  return options;
}

/// A golden model in a folder, and options to open it on a release of the simulator.
class SmallModel {
 public:
  explicit SmallModel(const std::string& name) { write_golden_model(name, folder_.path()); }

  EngineOptions options(const Simulator& simulator, int32_t cp, bool hccl = false) const {
    EngineOptions options = small_options(folder_, simulator, cp);
    options.hccl = hccl;
    return options;
  }

 private:
  TempDir folder_;
};

inline Request prompt_of(size_t tokens, int32_t id = 7, int32_t max_tokens = 1) {
  Request request;
  request.prompt = std::vector<int32_t>(tokens, id);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

/// What opening an engine and a prompt came to, with a step for each of its tokens.
struct Attempt {
  bool opened = false;
  std::optional<ErrorCode> code = {};  // none: all went well
  std::string text = {};
};

inline Attempt attempt(const EngineOptions& options, size_t tokens, int32_t max_tokens = 1) {
  Attempt result;
  try {
    const auto engine = Engine::open(options);
    result.opened = true;
    engine->submit(prompt_of(tokens, 7, max_tokens));
    for (int32_t i = 0; i < max_tokens; ++i) engine->step();
  } catch (const Error& error) {
    result.code = error.code();
    result.text = error.what();
  }
  return result;
}

}  // namespace longspan::testing_support
