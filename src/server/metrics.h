#pragma once

#include <longspan/engine.h>

#include <memory>
#include <string>

#include "server/engine_loop.h"

namespace longspan::server {

/// What Prometheus is told. From any thread.
class Metrics {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics();

  void on_result(const Result& result);
  void on_token_gap(double seconds);  // between two tokens of a request
  void on_refusal(int status);        // before the engine got the request

  /// Prometheus' text format. `snapshot`: of the engine, null while there is none.
  std::string text(const EngineLoop::Snapshot* snapshot);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace longspan::server
