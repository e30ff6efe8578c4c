#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/api_error.h"
#include "server/http.h"

namespace longspan::server {

/// Passes exchanges on to the HTTP server at a Unix socket and its answers back, whole ones and streams, as
/// they come. One thread for all; a connection for each exchange, which ends when the client goes.
class Relay {
 public:
  Relay();
  /// What is under way is given up.
  ~Relay();

  /// What becomes of one exchange, on the relay's thread.
  struct Hooks {
    /// The server can't be reached, or is gone before its answer's end: the client gets this, in a stream as
    /// an event.
    std::function<ApiError(const std::string& what, bool connected)> on_broken;
    /// Sees a whole answer before the client does.
    std::function<void(HttpResponse&)> on_response = {};
  };
  /// From any thread.
  void pass(std::shared_ptr<Exchange> exchange, const std::string& socket_path, Hooks hooks);

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

}  // namespace longspan::server
