#include "server/http_exchange.h"

#include <utility>

#include "server/api_error.h"

namespace longspan::server {

std::shared_ptr<Exchange> HttpExchange::handle(std::shared_ptr<HttpExchange> exchange) {
  HttpExchange* const raw = exchange.get();
  return {raw, [exchange = std::move(exchange)](Exchange*) { exchange->abandon(); }};
}

void HttpExchange::respond(HttpResponse response) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_ || ended_ || gone_) return;
    outgoing_.whole = std::move(response);
    ended_ = true;
    on_gone_ = nullptr;
  }
  wake_();
}

void HttpExchange::begin_stream(const std::string& content_type) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_ || ended_ || gone_) return;
    outgoing_.stream = content_type;
    begun_ = true;
  }
  wake_();
}

void HttpExchange::write(std::string data) {
  {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_ || broken_) return;
    if (outgoing_.data.size() + data.size() > max_unread_) {
      outgoing_.data.clear();
      broken_ = true;
    } else {
      outgoing_.data += data;
    }
  }
  wake_();
}

void HttpExchange::end_stream() {
  {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_) return;
    ended_ = outgoing_.end = true;
    on_gone_ = nullptr;
  }
  wake_();
}

void HttpExchange::on_gone(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    if (!gone_) {
      on_gone_ = std::move(call);
      return;
    }
  }
  call();
}

HttpExchange::Outgoing HttpExchange::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outgoing_, Outgoing());
}

bool HttpExchange::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

void HttpExchange::leave() {
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    call = std::exchange(on_gone_, nullptr);
  }
  if (call) call();
}

void HttpExchange::abandon() {
  {
    const std::lock_guard lock(mutex_);
    on_gone_ = nullptr;
    if (ended_ || gone_) return;
    ended_ = true;
    if (begun_) {
      broken_ = true;
    } else {
      outgoing_.whole = error_response(500, "the request ended without an answer");
    }
  }
  wake_();
}

}  // namespace longspan::server
