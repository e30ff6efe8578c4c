#include "cli/pump.h"

#include <map>
#include <utility>

#include "base/check.h"

namespace longspan::cli {

void run_requests(Engine& engine, size_t count, size_t parallel, const Context& context,
                  const std::function<Request(size_t)>& make,
                  const std::function<void(size_t, const Result&)>& done,
                  const std::function<void()>& after_step) {
  std::map<size_t, RequestId> running;
  bool interrupted = false;
  for (size_t next = 0; next < count || !running.empty();) {
    while (!interrupted && next < count && running.size() < parallel) {
      const size_t index = next++;
      Request request = make(index);
      request.on_finish = [&running, &done, &interrupted, index](const Result& result) {
        running.erase(index);
        if (!interrupted) done(index, result);
      };
      running[index] = 0;
      running[index] = engine.submit(std::move(request));
    }
    const bool worked = engine.step();
    check(worked || running.empty(), "the engine steps while requests are in flight");
    if (after_step) after_step();
    if (context.interrupted() && !interrupted) {
      interrupted = true;
      next = count;
      for (const auto& [index, id] : running) engine.cancel(id);
    }
  }
  if (interrupted) throw Error(ErrorCode::kCancelled, "interrupted");
}

}  // namespace longspan::cli
