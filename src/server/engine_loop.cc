#include "server/engine_loop.h"

#include <chrono>
#include <utility>

namespace longspan::server {

EngineLoop::EngineLoop(Engine& engine, std::function<void(const Error&)> on_dead, bool check_integrity)
    : engine_(engine), on_dead_(std::move(on_dead)), check_integrity_(check_integrity) {
  snapshot_ = {engine_.stats(), {}, 0};
  thread_ = std::thread([this] { run(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const RequestId id : live_) engine_.cancel(id);
  }
  wake_.notify_one();
  thread_.join();
}

RequestId EngineLoop::submit(Request request) {
  // The id is known only after submit, and a request may end before that returns.
  auto id = std::make_shared<RequestId>(0);
  request.on_finish = [this, id, inner = std::move(request.on_finish)](const Result& result) {
    {
      const std::lock_guard lock(mutex_);
      live_.erase(*id);
    }
    if (inner) inner(result);
  };
  const std::lock_guard lock(mutex_);
  *id = engine_.submit(std::move(request));
  live_.insert(*id);
  if (stopping_) engine_.cancel(*id);
  poked_ = true;
  wake_.notify_one();
  return *id;
}

void EngineLoop::cancel(RequestId id) {
  engine_.cancel(id);
  const std::lock_guard lock(mutex_);
  poked_ = true;
  wake_.notify_one();
}

EngineLoop::Snapshot EngineLoop::snapshot() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

std::optional<Error> EngineLoop::dead() const {
  const std::lock_guard lock(mutex_);
  return dead_;
}

void EngineLoop::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return poked_ || !live_.empty() || stopping_; });
      poked_ = false;
      if (stopping_ && live_.empty()) return;
    }
    if (step()) continue;
    std::unique_lock lock(mutex_);  // what is live waits for something else: look again soon
    wake_.wait_for(lock, std::chrono::milliseconds(5), [this] { return poked_ || live_.empty(); });
  }
}

bool EngineLoop::step() {
  std::optional<Error> lost;
  bool worked = false;
  try {
    worked = engine_.step();
    if (check_integrity_) {
      engine_.check_integrity();
      ++integrity_checks_;
    }
  } catch (const Error& error) {
    lost = error;
  } catch (const std::exception& error) {
    lost = Error(ErrorCode::kInternal, error.what());
  }
  Snapshot now{engine_.stats(), engine_.requests(), integrity_checks_};
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(now);
    first = lost && !dead_;
    if (first) {
      dead_ = lost;
      // A lost engine ends what it has, and in the next step what came meanwhile; a broken one need not.
      if (lost->code() != ErrorCode::kRankLost)
        for (const RequestId id : live_) engine_.cancel(id);
    }
  }
  if (first && on_dead_) on_dead_(*lost);
  return worked;
}

}  // namespace longspan::server
