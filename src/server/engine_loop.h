#pragma once

#include <longspan/engine.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

namespace longspan::server {

/// The thread that steps an engine for as long as there is work. Submit and cancel from any thread; callbacks
/// of requests run on the loop's thread and may do both.
class EngineLoop {
 public:
  /// `on_dead` is called once, on the loop's thread, if the engine is lost: what was in flight has got its
  /// error by then, and so does whatever is submitted later. `check_integrity`: after every step; a
  /// contradiction in the engine's page accounting loses it.
  EngineLoop(Engine& engine, std::function<void(const Error&)> on_dead, bool check_integrity = false);
  /// Cancels what is in flight and waits for its end.
  ~EngineLoop();

  RequestId submit(Request request);
  void cancel(RequestId id);

  /// Of the engine as the last step left it.
  struct Snapshot {
    EngineStats stats;
    std::vector<RequestStatus> requests;
    int64_t integrity_checks = 0;  // passed so far
  };
  Snapshot snapshot() const;
  std::optional<Error> dead() const;

 private:
  void run();
  bool step();

  Engine& engine_;
  const std::function<void(const Error&)> on_dead_;
  const bool check_integrity_;
  int64_t integrity_checks_ = 0;  // of the loop's thread

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  bool stopping_ = false, poked_ = false;
  std::set<RequestId> live_;
  Snapshot snapshot_;
  std::optional<Error> dead_;

  std::thread thread_;
};

}  // namespace longspan::server
