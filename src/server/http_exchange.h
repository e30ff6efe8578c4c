#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "server/http.h"

namespace longspan::server {

/// The mailbox between whoever answers a request and the connection that sends the answer.
class HttpExchange final : public Exchange {
 public:
  /// `wake` is called, from any thread, when there is something to take.
  HttpExchange(HttpRequest request, size_t max_unread, std::function<void()> wake)
      : request_(std::move(request)), max_unread_(max_unread), wake_(std::move(wake)) {}

  /// What a handler gets: dropping its last copy ends the exchange.
  static std::shared_ptr<Exchange> handle(std::shared_ptr<HttpExchange> exchange);

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override;
  void begin_stream(const std::string& content_type) override;
  void write(std::string data) override;
  void end_stream() override;
  void on_gone(std::function<void()> call) override;

  /// What the connection has to send next. Nothing set: nothing yet.
  struct Outgoing {
    std::optional<HttpResponse> whole;
    std::optional<std::string> stream;  // content type of a stream that begins
    std::string data;                   // of the stream
    bool end = false;                   // of the stream
    bool empty() const { return !whole && !stream && data.empty() && !end; }
  };
  Outgoing take();
  /// The rest of the answer will not come.
  bool broken() const;
  /// The client is gone: the answer ends here.
  void leave();

 private:
  void abandon();

  const HttpRequest request_;
  const size_t max_unread_;
  const std::function<void()> wake_;

  mutable std::mutex mutex_;  // guards what follows
  Outgoing outgoing_;
  bool begun_ = false, ended_ = false, gone_ = false;
  bool broken_ = false;  // the client left too much unread, or the answer was given up
  std::function<void()> on_gone_;
};

}  // namespace longspan::server
