#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "server/http.h"

namespace longspan::server {

class Tls;

struct HttpLimits {
  uint32_t max_header = 16 << 10;          // bytes
  uint64_t max_body = uint64_t{64} << 20;  // bytes
  size_t max_unread = size_t{4} << 20;     // bytes of an answer that a client has not read
  size_t max_connections = 4096;
  std::chrono::milliseconds idle{75'000};        // between requests of a connection
  std::chrono::milliseconds header{10'000};      // from a request's first byte to the end of its header
  std::chrono::milliseconds body{120'000};       // from there to its end
  std::chrono::milliseconds write{30'000};       // for the client to take what was sent
  std::chrono::milliseconds keep_alive{15'000};  // a quiet event stream gets a comment so often
};

struct HttpAddress {
  std::string host = "127.0.0.1";  // an address or a name
  uint16_t port = 8080;            // 0: any free one
  std::string socket_path = {};    // not empty: a Unix socket there instead, removed if it is there already
};

/// For await_answers, once what is under way has been told to end.
inline constexpr std::chrono::duration<double> kLastWords{2};

/// HTTP/1.1 over TCP or a Unix socket, or over TLS on TCP if given what that needs: one thread for all
/// connections, a few for handlers. What it hands to handlers must be gone before it is destroyed.
class HttpServer {
 public:
  /// Listens from here on; connections are served once start() was called. Throws Error(kUsage) if the
  /// address can't be listened at.
  HttpServer(const HttpAddress& address, const HttpLimits& limits, HttpHandler handler,
             std::shared_ptr<Tls> tls = nullptr);
  ~HttpServer();

  uint16_t port() const;
  void start();
  /// No new connections and no second request on an old one; answers under way go on.
  void drain();
  /// Closes every connection; no handler is called from here on.
  void stop();
  /// Requests whose answer has not ended.
  int64_t answering() const;
  /// Until there is none, but no longer than `at_most`.
  void await_answers(std::chrono::duration<double> at_most) const;
  int64_t connections() const;

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

}  // namespace longspan::server
