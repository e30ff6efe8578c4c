#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace longspan::server {

struct HttpRequest {
  std::string method;              // "GET"
  std::string path;                // without the query
  std::string content_type = {};   // as sent; empty: none
  std::string authorization = {};  // likewise
  std::string body = {};
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};  // further ones
};

/// One HTTP request and its answer. All functions may be called from any thread and never wait for the
/// client: what it does not read is kept, and a client that leaves more than HttpLimits::max_unread unread
/// counts as gone. An answer is either one respond(), or begin_stream(), any number of write()s and
/// end_stream(); what comes after its end, or after the client went, does nothing. If the last reference is
/// dropped before the answer ended, the client gets status 500, or a cut stream.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const HttpRequest& request() const = 0;
  virtual void respond(HttpResponse response) = 0;
  virtual void begin_stream(const std::string& content_type) = 0;
  virtual void write(std::string data) = 0;
  virtual void end_stream() = 0;
  /// `call` is made once, on any thread, if the client goes before the answer's end; at once if it is gone.
  virtual void on_gone(std::function<void()> call) = 0;
};

/// Answers a request, then or later. Requests with a body are handled on worker threads, several at a time;
/// others on the thread that serves all connections, which must not be held up.
using HttpHandler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace longspan::server
