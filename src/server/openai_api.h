#pragma once

#include <longspan/engine.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "server/engine_loop.h"
#include "server/generation.h"
#include "server/generation_defaults.h"
#include "server/http.h"

namespace longspan::server {

struct ApiOptions {
  std::string model_name;
  std::vector<std::string> api_keys = {};  // none: everybody may ask
  int64_t max_requests = 288;              // in the engine at a time, running and waiting
  GenerationDefaults defaults = {};
  std::function<uint64_t()> random;   // seeds and ids; from any thread
  std::function<int64_t()> unix_now;  // seconds since 1970
  std::function<double()> now;        // seconds on a steady clock
  double pair_work = 0;               // PrefillEta's
};

/// OpenAI's HTTP API on one engine, which comes after the server listens and goes before it ends.
class OpenAiApi {
 public:
  explicit OpenAiApi(ApiOptions options);

  /// Answers every request, at once or when the engine is done with it; throws nothing.
  void handle(const std::shared_ptr<Exchange>& exchange);

  /// From here on requests are taken. Both outlive the call of detach().
  void attach(const Engine& engine, EngineLoop& loop);
  /// From here on requests are refused (503); those taken go on.
  void drain() { draining_ = true; }
  /// The engine is lost: /health says so.
  void fail(const std::string& reason);
  /// Nothing uses engine and loop any more but the generations that the loop still has.
  void detach();

 private:
  struct Route;
  static const std::vector<Route>& routes();

  void dispatch(const std::shared_ptr<Exchange>& exchange);
  void require_ready() const;
  void require_model(const std::string& name) const;

  void health(Exchange& exchange) const;
  void models(Exchange& exchange) const;
  void model(Exchange& exchange) const;
  void metrics(Exchange& exchange);
  void requests(Exchange& exchange) const;
  void cancel(Exchange& exchange) const;
  void tokenize(Exchange& exchange) const;
  void detokenize(Exchange& exchange) const;
  void generate(const std::shared_ptr<Exchange>& exchange, GenerationRequest request);
  void prepare_schema(const std::string& schema) const;
  int32_t default_max_tokens(const GenerationRequest& request, int64_t prompt_tokens) const;

  const ApiOptions options_;
  const int64_t started_;
  Admission admission_;
  Metrics metrics_;
  PrefillEta eta_;
  GenerationList list_;
  std::atomic<bool> draining_{false};

  mutable std::shared_mutex mutex_;  // guards what follows; a handler holds it for reading
  const Engine* engine_ = nullptr;
  EngineLoop* loop_ = nullptr;
  std::optional<std::string> failure_;
};

}  // namespace longspan::server
