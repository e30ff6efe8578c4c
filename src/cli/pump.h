#pragma once

#include <longspan/engine.h>

#include <cstddef>
#include <functional>

#include "cli/context.h"

namespace longspan::cli {

/// Runs requests 0 .. count-1 with at most `parallel` in flight: `make` gives a request when there is room
/// for it, `done` takes its result (in finishing order), `after_step` runs after every step. An interrupt
/// cancels what runs and throws Error(kCancelled).
void run_requests(Engine& engine, size_t count, size_t parallel, const Context& context,
                  const std::function<Request(size_t)>& make,
                  const std::function<void(size_t, const Result&)>& done,
                  const std::function<void()>& after_step = {});

}  // namespace longspan::cli
