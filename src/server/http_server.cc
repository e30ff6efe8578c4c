#include "server/http_server.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <utility>

#include "server/asio.h"
#include "server/byte_stream.h"
#include "server/http_session.h"
#include "server/tls.h"

namespace longspan::server {

namespace {

constexpr size_t kWorkers = 2;
constexpr int kBacklog = 1024;
constexpr auto kAnswerPoll = std::chrono::milliseconds(50);

}  // namespace

struct HttpServer::Core final : SessionHost {
  Core(const HttpLimits& limits_in, HttpHandler handler_in, std::shared_ptr<Tls> tls_in)
      : limits(limits_in),
        handler(std::move(handler_in)),
        tls(std::move(tls_in)),
        io(1),
        acceptor(io),
        unix_acceptor(io),
        retry(io),
        workers(kWorkers) {}

  void listen(const HttpAddress& address);
  template <class Acceptor, class Endpoint>
  error_code listen_at(Acceptor& at, const Endpoint& endpoint);
  void accept() { unix_acceptor.is_open() ? accept_from(unix_acceptor) : accept_from(acceptor); }
  template <class Acceptor>
  void accept_from(Acceptor& from);
  std::unique_ptr<ByteStream> stream_of(tcp::socket socket);
  std::unique_ptr<ByteStream> stream_of(unix_socket::socket socket) {
    return plain_stream(std::move(socket));
  }

  void handle(std::shared_ptr<Exchange> exchange) override {
    if (exchange->request().body.empty()) return handler(std::move(exchange));
    asio::post(workers, [this, exchange = std::move(exchange)]() mutable { handler(std::move(exchange)); });
  }
  void answered() override { --answering; }
  void answer_begins() override { ++answering; }
  bool draining() const override { return draining_; }
  const HttpLimits& http_limits() const override { return limits; }
  void closed(HttpSession& session) override {
    sessions.erase(&session);
    connections = static_cast<int64_t>(sessions.size());
  }

  const HttpLimits limits;
  const HttpHandler handler;
  const std::shared_ptr<Tls> tls;
  asio::io_context io;
  tcp::acceptor acceptor;
  unix_socket::acceptor unix_acceptor;
  uint16_t port = 0;
  asio::steady_timer retry;
  asio::thread_pool workers;
  std::thread thread;
  std::set<HttpSession*> sessions;  // of the io thread
  std::atomic<int64_t> answering{0}, connections{0};
  std::atomic<bool> draining_{false};
};

template <class Acceptor, class Endpoint>
error_code HttpServer::Core::listen_at(Acceptor& at, const Endpoint& endpoint) {
  error_code error;
  at.open(endpoint.protocol(), error);
  if (!error) at.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) at.bind(endpoint, error);
  if (!error) at.listen(kBacklog, error);
  return error;
}

void HttpServer::Core::listen(const HttpAddress& address) {
  error_code error;
  if (!address.socket_path.empty()) {
    unlink(address.socket_path.c_str());
    error = listen_at(unix_acceptor, unix_socket::endpoint(address.socket_path));
    if (!error) return;
    throw Error(ErrorCode::kUsage,
                fmt::format("can't listen at {}: {}", address.socket_path, error.message()));
  }
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::kUsage,
                fmt::format("can't listen at {}:{}: {}; choose another with --host and --port", address.host,
                            address.port, why));
  };
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(address.host, std::to_string(address.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) fail(error.message());
  error = listen_at(acceptor, found.begin()->endpoint());
  if (error) fail(error.message());
  port = acceptor.local_endpoint().port();
}

std::unique_ptr<ByteStream> HttpServer::Core::stream_of(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  return tls ? tls->stream(std::move(socket)) : plain_stream(std::move(socket));
}

template <class Acceptor>
void HttpServer::Core::accept_from(Acceptor& from) {
  from.async_accept([this](error_code error, auto socket) {
    if (draining_ || error == asio::error::operation_aborted) return;
    if (error) {  // out of descriptors, most likely: some will come free
      retry.expires_after(std::chrono::milliseconds(100));
      retry.async_wait([this](error_code stopped) {
        if (!stopped) accept();
      });
      return;
    }
    const bool full = sessions.size() >= limits.max_connections;
    auto session = std::make_shared<HttpSession>(stream_of(std::move(socket)), *this);
    sessions.insert(session.get());
    connections = static_cast<int64_t>(sessions.size());
    session->start(full);
    accept();
  });
}

HttpServer::HttpServer(const HttpAddress& address, const HttpLimits& limits, HttpHandler handler,
                       std::shared_ptr<Tls> tls)
    : core_(std::make_unique<Core>(limits, std::move(handler), std::move(tls))) {
  core_->listen(address);
}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::stop() {
  drain();
  core_->workers.join();
  if (core_->thread.joinable()) {
    asio::post(core_->io, [core = core_.get()] {
      for (HttpSession* session : core->sessions) session->close();
    });
    core_->thread.join();
  }
}

uint16_t HttpServer::port() const {
  return core_->port;
}

void HttpServer::start() {
  core_->accept();
  core_->thread = std::thread([core = core_.get()] { core->io.run(); });
}

void HttpServer::drain() {
  core_->draining_ = true;
  asio::post(core_->io, [core = core_.get()] {
    error_code ignored;
    core->acceptor.close(ignored);
    core->unix_acceptor.close(ignored);
    core->retry.cancel();
    for (HttpSession* session : core->sessions) session->close_if_idle();
  });
}

int64_t HttpServer::answering() const {
  return core_->answering;
}

void HttpServer::await_answers(std::chrono::duration<double> at_most) const {
  const auto begin = std::chrono::steady_clock::now();
  while (answering() > 0 && std::chrono::steady_clock::now() - begin < at_most)
    std::this_thread::sleep_for(kAnswerPoll);
}

int64_t HttpServer::connections() const {
  return core_->connections;
}

}  // namespace longspan::server
