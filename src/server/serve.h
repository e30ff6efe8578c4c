#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/http_server.h"

namespace longspan::server {

struct ServeOptions {
  HttpAddress address;
  HttpLimits limits;
  std::string model_name;             // what clients call the model
  std::vector<std::string> api_keys;  // none: everybody may ask
  std::string tls_cert, tls_key;      // PEM files; "": plain HTTP
  int64_t max_requests = 288;         // in the engine at a time, running and waiting
  double pair_work = 0;               // attention's work for a (token, key) pair over a token's other work
  double drain_timeout_s = 30;        // for answers under way once it is told to stop
  bool check_integrity = false;       // after every step; a contradiction ends serve() with Error(kInternal)
};

/// What the server needs from the process around it.
struct ServeProcess {
  std::function<std::unique_ptr<Engine>()> open_engine;
  std::function<bool()> told_to_stop;  // asked every so often
  std::function<uint64_t()> random;    // from any thread
  std::function<int64_t()> unix_now;   // seconds since 1970
  std::function<double()> now;         // seconds on a steady clock
  std::function<void(uint16_t port)> on_listening = {};
  std::function<void(const Engine&)> on_ready = {};
  std::function<void()> on_drain = {};
  std::function<std::optional<Error>()> lost =
      {};  // what was, of the engine, while it may have nothing to do
};

/// Listens, opens the engine and answers until told to stop; then takes nothing new, lets answers under way
/// end, cancels those that take longer than drain_timeout_s, and returns. Throws Error: kUsage for an address
/// that can't be listened at, what Tls() and opening the engine throws, and what the engine was lost with.
void serve(const ServeOptions& options, const std::string& model_folder, const ServeProcess& process);

}  // namespace longspan::server
