#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "server/asio.h"
#include "server/byte_stream.h"
#include "server/http_exchange.h"
#include "server/http_server.h"

namespace longspan::server {

class HttpSession;

/// What a connection needs from the server around it. All on the io thread.
class SessionHost {
 public:
  virtual ~SessionHost() = default;
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
  virtual void answer_begins() = 0;
  virtual void answered() = 0;
  virtual bool draining() const = 0;
  virtual const HttpLimits& http_limits() const = 0;
  virtual void closed(HttpSession& session) = 0;
};

/// One connection: requests one after another, each answered before the next is read. Lives as long as its
/// coroutine; all functions on the io thread.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(std::unique_ptr<ByteStream> stream, SessionHost& host);
  ~HttpSession() { host_.closed(*this); }

  /// `refuse`: says 503 and closes.
  void start(bool refuse);
  void close();
  void close_if_idle();

 private:
  using Time = std::chrono::milliseconds;
  template <class T = void>
  using Task = asio::awaitable<T>;

  Task<> run(bool refuse);
  Task<bool> wait_for_data();
  Task<bool> serve_one();
  Task<bool> answer(std::shared_ptr<HttpExchange> exchange);
  Task<bool> send_answer(HttpExchange& exchange);
  Task<bool> send_response(const HttpResponse& response);
  Task<bool> send(std::string data);
  Task<> refuse_and_close(int status, std::string message);
  std::string head(int status, const std::string& content_type, bool last) const;
  std::string framed(const std::string& data) const;
  void watch_client();
  Task<> stop_watching();
  void wake();

  const std::unique_ptr<ByteStream> stream_;
  SessionHost& host_;
  boost::beast::flat_buffer buffer_;
  asio::steady_timer wake_;

  // Of the request being served:
  std::shared_ptr<HttpExchange> exchange_;
  bool idle_ = true;  // none is
  bool keep_alive_ = true, chunked_ = true, head_only_ = false;
  bool client_gone_ = false;
  bool watching_ = false;  // a read is under way beside the answer
};

}  // namespace longspan::server
