#include "server/http_client.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "server/asio.h"
#include "server/body_reader.h"

namespace longspan::server {

HttpUrl parse_url(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::kUsage, fmt::format("--url {}: {}; for example http://127.0.0.1:8080", url, why));
  };
  if (url.starts_with("https://")) refuse("https is not in this build");
  if (!url.starts_with(kScheme)) refuse("must start with http://");
  const std::string rest = url.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string authority = rest.substr(0, slash);
  HttpUrl parsed;
  parsed.base = rest.substr(slash);
  while (parsed.base.ends_with('/')) parsed.base.pop_back();
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket)) {
    parsed.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']'))
    authority = authority.substr(1, authority.size() - 2);
  parsed.host = authority;
  if (parsed.host.empty()) refuse("has no host");
  if (parsed.port.empty() || parsed.port.find_first_not_of("0123456789") != std::string::npos ||
      parsed.port.size() > 5)
    refuse("has no port number");
  return parsed;
}

using OnBody = std::function<void(std::string_view)>;
using Parser = http::response_parser<http::string_body>;

struct HttpClient::Impl {
  asio::awaitable<HttpAnswer> ask(http::verb verb, std::string path, std::string body, const OnBody* on_body);
  asio::awaitable<error_code> connect();
  asio::awaitable<error_code> read(Parser& parser, const OnBody* on_body);
  HttpAnswer run(http::verb verb, const std::string& path, const std::string& body,
                 const OnBody* on_body = nullptr);

  HttpUrl url;
  std::string api_key;
  std::chrono::milliseconds timeout{0};
  asio::io_context io{1};
  std::optional<boost::beast::tcp_stream> stream;
  boost::beast::flat_buffer buffer;
  std::atomic<bool> stopped{false};
};

asio::awaitable<error_code> HttpClient::Impl::connect() {
  error_code error;
  stream.emplace(io);
  buffer.clear();
  tcp::resolver resolver(io);
  const auto places =
      co_await resolver.async_resolve(url.host, url.port, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  stream->expires_after(timeout);
  co_await stream->async_connect(places, asio::redirect_error(asio::use_awaitable, error));
  co_return error;
}

// The whole answer, or what of a body goes to `on_body` bit by bit.
asio::awaitable<error_code> HttpClient::Impl::read(Parser& parser, const OnBody* on_body) {
  error_code error;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  co_await http::async_read_header(*stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  if (!on_body || parser.get().result_int() != 200) {
    co_await http::async_read(*stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
    co_return error;
  }
  co_return co_await read_pieces(*stream, buffer, parser,
                                 [on_body](const std::string& piece) { (*on_body)(piece); });
}

asio::awaitable<HttpAnswer> HttpClient::Impl::ask(http::verb verb, std::string path, std::string body,
                                                  const OnBody* on_body) {
  http::request<http::string_body> request(verb, url.base + path, 11);
  request.set(http::field::host, url.host + ":" + url.port);
  if (!api_key.empty()) request.set(http::field::authorization, "Bearer " + api_key);
  if (verb == http::verb::post) request.set(http::field::content_type, "application/json");
  request.body() = std::move(body);
  request.prepare_payload();

  error_code error;
  for (const bool kept : {true, false}) {  // a kept connection may have been closed meanwhile
    if (kept && !stream) continue;
    if (!kept) {
      error = co_await connect();
      if (error) break;
    }
    stream->expires_after(timeout);
    co_await http::async_write(*stream, request, asio::redirect_error(asio::use_awaitable, error));
    Parser parser;
    if (!error) error = co_await read(parser, on_body);
    if (!error) {
      HttpAnswer answer{static_cast<int>(parser.get().result_int()), std::move(parser.get().body())};
      if (!parser.get().keep_alive()) stream.reset();
      co_return answer;
    }
    stream.reset();
    if (kept && (parser.is_header_done() || error == boost::beast::error::timeout)) break;
  }
  throw NoAnswer(fmt::format("http://{}:{}{}{}: {}", url.host, url.port, url.base, path, error.message()),
                 error.message());
}

HttpAnswer HttpClient::Impl::run(http::verb verb, const std::string& path, const std::string& body,
                                 const OnBody* on_body) {
  std::optional<HttpAnswer> answer;
  std::exception_ptr failure;
  io.restart();
  asio::co_spawn(io, ask(verb, path, body, on_body), [&](std::exception_ptr error, HttpAnswer got) {
    failure = error;
    answer = std::move(got);
  });
  if (!stopped) io.run();
  if (stopped) throw Error(ErrorCode::kCancelled, "the request was cancelled");
  if (failure) std::rethrow_exception(failure);
  return *answer;
}

HttpClient::HttpClient(HttpUrl url, std::string api_key, double timeout_s) : impl_(std::make_unique<Impl>()) {
  impl_->url = std::move(url);
  impl_->api_key = std::move(api_key);
  impl_->timeout = std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1000));
}
HttpClient::~HttpClient() = default;

HttpAnswer HttpClient::get(const std::string& path) {
  return impl_->run(http::verb::get, path, "");
}
HttpAnswer HttpClient::post(const std::string& path, const std::string& json) {
  return impl_->run(http::verb::post, path, json);
}
HttpAnswer HttpClient::post_stream(const std::string& path, const std::string& json, const OnBody& on_body) {
  return impl_->run(http::verb::post, path, json, &on_body);
}
void HttpClient::stop() {
  impl_->stopped = true;
  impl_->io.stop();
}

}  // namespace longspan::server
