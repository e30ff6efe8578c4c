#include "server/http_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "server/api_error.h"
#include "server/asio.h"

namespace longspan::server {

namespace {

constexpr size_t kReadSize = 16 << 10;
constexpr size_t kWriteSize = 64 << 10;
constexpr auto kLinger = std::chrono::milliseconds(2000);

int status_of(const error_code& error) {
  if (error == http::error::body_limit) return 413;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  return 400;
}

std::string reason_of(const error_code& error, const HttpLimits& limits) {
  if (error == http::error::body_limit)
    return fmt::format("the body is larger than {} bytes", limits.max_body);
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return fmt::format("the header is larger than {} bytes", limits.max_header);
  return fmt::format("not an HTTP request: {}", error.message());
}

std::string text_of(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

HttpSession::HttpSession(std::unique_ptr<ByteStream> stream, SessionHost& host)
    : stream_(std::move(stream)), host_(host), wake_(stream_->get_executor()) {}

void HttpSession::start(bool refuse) {
  asio::co_spawn(
      stream_->get_executor(), [self = shared_from_this(), refuse] { return self->run(refuse); },
      asio::detached);
}

void HttpSession::close() {
  client_gone_ = true;
  stream_->close();
  wake_.cancel();
}

void HttpSession::close_if_idle() {
  if (idle_ && buffer_.size() == 0) close();
}

HttpSession::Task<> HttpSession::run(bool refuse) {
  stream_->expires_after(host_.http_limits().header);
  const error_code failed = co_await stream_->open();
  if (failed) co_return stream_->close();
  if (refuse) {
    co_await refuse_and_close(503, "too many connections");
    co_return;
  }
  while (co_await wait_for_data()) {
    idle_ = false;
    const bool more = co_await serve_one();
    if (!more) break;
    idle_ = true;
    if (host_.draining()) break;
  }
  co_await stream_->end();
  stream_->close();
}

// Until the first byte of a request is there.
HttpSession::Task<bool> HttpSession::wait_for_data() {
  if (buffer_.size() > 0) co_return true;
  error_code error;
  stream_->expires_after(host_.http_limits().idle);
  const size_t count = co_await stream_->async_read_some(buffer_.prepare(kReadSize),
                                                         asio::redirect_error(asio::use_awaitable, error));
  buffer_.commit(count);
  co_return !error && !client_gone_;
}

// One request and its answer; false: the connection ends.
HttpSession::Task<bool> HttpSession::serve_one() {
  const HttpLimits& limits = host_.http_limits();
  http::request_parser<http::string_body> parser;
  parser.header_limit(limits.max_header);
  parser.body_limit(limits.max_body);
  keep_alive_ = false;
  chunked_ = true;
  head_only_ = false;

  error_code error;
  stream_->expires_after(limits.header);
  co_await http::async_read_header(*stream_, buffer_, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
  if (!error && parser.content_length() && *parser.content_length() > limits.max_body)
    error = http::error::body_limit;
  if (!error) {
    const auto& header = parser.get();
    const std::string expect = text_of(header[http::field::expect]);
    if (expect == "100-continue") {
      const bool sent = co_await send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!sent) co_return false;
    }
    stream_->expires_after(limits.body);
    co_await http::async_read(*stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
  }
  // A time-out has closed the socket already.
  if (client_gone_ || error == http::error::end_of_stream || error == http::error::partial_message ||
      error == asio::error::connection_reset || error == boost::beast::error::timeout)
    co_return false;
  if (error) {
    co_await refuse_and_close(status_of(error), reason_of(error, limits));
    co_return false;
  }
  stream_->expires_never();

  auto message = parser.release();
  keep_alive_ = message.keep_alive();
  chunked_ = message.version() >= 11;
  HttpRequest request;
  request.method = text_of(message.method_string());
  head_only_ = request.method == "HEAD";
  request.path = text_of(message.target());
  request.path.resize(std::min(request.path.find('?'), request.path.size()));
  request.content_type = text_of(message[http::field::content_type]);
  request.authorization = text_of(message[http::field::authorization]);
  request.body = std::move(message.body());

  const std::weak_ptr<HttpSession> weak = weak_from_this();
  const auto executor = stream_->get_executor();
  auto exchange = std::make_shared<HttpExchange>(std::move(request), limits.max_unread, [weak, executor] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->wake();
    });
  });
  co_return co_await answer(std::move(exchange));
}

void HttpSession::wake() {
  if (exchange_ && exchange_->broken()) return close();  // a write that waits for the client ends, too
  wake_.cancel();
}

HttpSession::Task<bool> HttpSession::answer(std::shared_ptr<HttpExchange> exchange) {
  exchange_ = exchange;
  host_.answer_begins();
  host_.handle(HttpExchange::handle(exchange));
  const bool complete = co_await send_answer(*exchange);
  if (!complete) exchange->leave();
  exchange_ = nullptr;
  co_await stop_watching();
  host_.answered();
  co_return complete&& keep_alive_;
}

// False if the client did not get the whole answer.
HttpSession::Task<bool> HttpSession::send_answer(HttpExchange& exchange) {
  bool streaming = false;
  for (;;) {
    HttpExchange::Outgoing out = exchange.take();
    if (client_gone_ || exchange.broken()) co_return false;
    if (out.empty()) {
      if (!watching_) watch_client();
      wake_.expires_after(streaming ? host_.http_limits().keep_alive : std::chrono::hours(24));
      error_code woken;
      co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      if (!woken && streaming) out.data = ": keep-alive\n\n";
    }
    if (out.whole) co_return co_await send_response(*out.whole);
    std::string bytes;
    if (out.stream) {
      streaming = true;
      bytes = head(200, *out.stream, host_.draining()) + "Cache-Control: no-cache\r\n";
      bytes += chunked_ ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    }
    bytes += framed(out.data);
    if (out.end && chunked_) bytes += "0\r\n\r\n";
    if (!bytes.empty()) {
      const bool sent = co_await send(std::move(bytes));
      if (!sent) co_return false;
    }
    if (out.end) {
      keep_alive_ = keep_alive_ && chunked_;
      co_return true;
    }
  }
}

std::string HttpSession::framed(const std::string& data) const {
  if (data.empty() || !chunked_) return data;
  return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

// The status line and what every answer has; without the empty line after it.
std::string HttpSession::head(int status, const std::string& content_type, bool last) const {
  return fmt::format("HTTP/1.1 {} {}\r\nServer: longspan\r\nContent-Type: {}\r\nConnection: {}\r\n", status,
                     text_of(http::obsolete_reason(static_cast<http::status>(status))), content_type,
                     keep_alive_ && !last ? "keep-alive" : "close");
}

HttpSession::Task<bool> HttpSession::send_response(const HttpResponse& response) {
  std::string bytes = head(response.status, response.content_type, host_.draining());
  for (const auto& [name, value] : response.headers) bytes += fmt::format("{}: {}\r\n", name, value);
  bytes += fmt::format("Content-Length: {}\r\n\r\n", response.body.size());
  if (!head_only_) bytes += response.body;
  co_return co_await send(std::move(bytes));
}

// In pieces: a slow client has the time limit for each of them.
HttpSession::Task<bool> HttpSession::send(std::string data) {
  error_code error;
  for (size_t begin = 0; begin < data.size() && !error;) {
    const size_t size = std::min(kWriteSize, data.size() - begin);
    stream_->expires_after(host_.http_limits().write);
    begin += co_await stream_->async_write_some(asio::buffer(data.data() + begin, size),
                                                asio::redirect_error(asio::use_awaitable, error));
  }
  stream_->expires_never();
  co_return !error && !client_gone_;
}

// Whoever still sends gets a reset instead of the refusal, so it is read for a while.
HttpSession::Task<> HttpSession::refuse_and_close(int status, std::string message) {
  const HttpResponse response = error_response(status, message);
  keep_alive_ = false;
  const bool sent = co_await send_response(response);
  error_code error;
  stream_->stop_sending();
  stream_->expires_after(kLinger);
  while (sent && !error) {
    buffer_.clear();
    co_await stream_->async_read_some(buffer_.prepare(kReadSize),
                                      asio::redirect_error(asio::use_awaitable, error));
  }
  stream_->close();
}

// While an answer is waited for nothing else is read: the client's end shows here, or its next request, early.
// Of that no more is read than a connection may keep.
void HttpSession::watch_client() {
  if (buffer_.size() >= kReadSize) return;
  watching_ = true;
  stream_->read_some(buffer_.prepare(kReadSize),
                     [self = shared_from_this()](const error_code& error, size_t count) {
                       self->watching_ = false;
                       self->buffer_.commit(count);
                       if (error && self->exchange_) self->client_gone_ = true;
                       if (!error && self->exchange_) self->watch_client();
                       self->wake_.cancel();
                     });
}

HttpSession::Task<> HttpSession::stop_watching() {
  if (watching_) stream_->stop_reading();
  while (watching_) {
    wake_.expires_after(std::chrono::hours(24));
    error_code woken;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
}

}  // namespace longspan::server
