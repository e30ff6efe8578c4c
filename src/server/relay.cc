#include "server/relay.h"

#include <boost/beast/http/span_body.hpp>
#include <limits>
#include <thread>
#include <utility>

#include "server/asio.h"
#include "server/body_reader.h"

namespace longspan::server {
namespace {

constexpr uint32_t kMaxHeader = 64 << 10;  // bytes

bool of_connection(http::field name) {
  return name == http::field::connection || name == http::field::server ||
         name == http::field::content_type || name == http::field::content_length ||
         name == http::field::transfer_encoding;
}

class RelayedExchange : public std::enable_shared_from_this<RelayedExchange> {
 public:
  RelayedExchange(asio::io_context& io, std::shared_ptr<Exchange> exchange, Relay::Hooks hooks)
      : stream_(io), exchange_(std::move(exchange)), hooks_(std::move(hooks)) {}

  void start(const std::string& socket_path) {
    asio::co_spawn(
        stream_.get_executor(), [self = shared_from_this(), socket_path] { return self->run(socket_path); },
        asio::detached);
  }

 private:
  asio::awaitable<void> run(std::string socket_path) {
    exchange_->on_gone([weak = weak_from_this(), executor = stream_.get_executor()] {
      asio::post(executor, [weak] {
        if (const auto self = weak.lock()) self->stream_.close();
      });
    });
    const error_code error = co_await pass(socket_path);
    if (!error) co_return;
    const ApiError broken = hooks_.on_broken(error.message(), connected_);
    if (!streaming_) co_return exchange_->respond(error_response(broken));
    // It may have broken off in the middle of an event.
    exchange_->write("\n\ndata: " + error_body(broken) + "\n\n");
    exchange_->end_stream();
  }

  asio::awaitable<error_code> pass(const std::string& socket_path) {
    error_code error;
    co_await stream_.async_connect(unix_socket::endpoint(socket_path),
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return error;
    connected_ = true;
    const HttpRequest& asked = exchange_->request();
    using Body = http::span_body<const char>;
    http::request<Body> request;
    request.version(11);
    request.method_string(asked.method == "HEAD" ? "GET" : asked.method);  // a client's server cuts its body
    request.target(asked.path);
    request.set(http::field::host, "longspan");
    request.set(http::field::connection, "close");
    if (!asked.content_type.empty()) request.set(http::field::content_type, asked.content_type);
    if (!asked.authorization.empty()) request.set(http::field::authorization, asked.authorization);
    request.body() = Body::value_type(asked.body.data(), asked.body.size());
    if (!asked.body.empty()) request.content_length(asked.body.size());
    co_await http::async_write(stream_, request, asio::redirect_error(asio::use_awaitable, error));
    if (!error) error = co_await take_answer();
    co_return error;
  }

  asio::awaitable<error_code> take_answer() {
    error_code error;
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.header_limit(kMaxHeader);
    parser.body_limit(std::numeric_limits<uint64_t>::max());
    co_await http::async_read_header(stream_, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return error;
    if (parser.content_length()) {
      co_await http::async_read(stream_, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
      if (!error) respond(parser.get());
      co_return error;
    }
    streaming_ = true;
    exchange_->begin_stream(std::string(parser.get()[http::field::content_type]));
    error = co_await read_pieces(stream_, buffer, parser,
                                 [this](std::string piece) { exchange_->write(std::move(piece)); });
    if (!error) exchange_->end_stream();
    co_return error;
  }

  void respond(http::response<http::string_body>& answer) {
    HttpResponse response{.status = static_cast<int>(answer.result_int()),
                          .body = std::move(answer.body()),
                          .content_type = std::string(answer[http::field::content_type])};
    for (const auto& field : answer)
      if (!of_connection(field.name()))
        response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    if (hooks_.on_response) hooks_.on_response(response);
    exchange_->respond(std::move(response));
  }

  boost::beast::basic_stream<unix_socket> stream_;
  const std::shared_ptr<Exchange> exchange_;
  const Relay::Hooks hooks_;
  bool connected_ = false, streaming_ = false;
};

}  // namespace

struct Relay::Core {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::thread thread;
};

Relay::Relay() : core_(std::make_unique<Core>()) {
  core_->thread = std::thread([core = core_.get()] { core->io.run(); });
}

Relay::~Relay() {
  core_->io.stop();
  core_->thread.join();
}

void Relay::pass(std::shared_ptr<Exchange> exchange, const std::string& socket_path, Hooks hooks) {
  asio::post(core_->io, [this, exchange = std::move(exchange), socket_path,
                         hooks = std::move(hooks)]() mutable {
    std::make_shared<RelayedExchange>(core_->io, std::move(exchange), std::move(hooks))->start(socket_path);
  });
}

}  // namespace longspan::server
