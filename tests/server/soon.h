#pragma once

#include <chrono>
#include <thread>

namespace longspan::server {

/// Waits for what another thread does, at most ten seconds.
template <class F>
bool soon(F condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace longspan::server
