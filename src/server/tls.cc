#include "server/tls.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <openssl/err.h>
#include <openssl/x509err.h>

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace longspan::server {
namespace {

namespace ssl = asio::ssl;
constexpr auto kGoodbye = std::chrono::milliseconds(2000);  // for the client's answer to ours

class TlsStream final : public ByteStream {
 public:
  TlsStream(tcp::socket socket, ssl::context& context) : stream_(std::move(socket), context) {}

  executor_type get_executor() override { return stream_.get_executor(); }
  asio::awaitable<error_code> open() override {
    error_code error;
    co_await stream_.async_handshake(ssl::stream_base::server,
                                     asio::redirect_error(asio::use_awaitable, error));
    co_return error;
  }
  // A client that goes without TLS's goodbye has ended its stream all the same.
  void read_some(asio::mutable_buffer buffer, Done done) override {
    stream_.async_read_some(buffer, [done = std::move(done)](error_code error, size_t bytes) {
      done(error == ssl::error::stream_truncated ? error_code(asio::error::eof) : error, bytes);
    });
  }
  void write_some(asio::const_buffer buffer, Done done) override {
    stream_.async_write_some(buffer, std::move(done));
  }
  void stop_reading() override {
    error_code ignored;
    below().socket().cancel(ignored);
  }
  asio::awaitable<void> end() override {
    error_code ignored;
    below().expires_after(kGoodbye);
    co_await stream_.async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
  }
  void stop_sending() override {
    error_code ignored;
    below().socket().shutdown(tcp::socket::shutdown_send, ignored);
  }
  void close() override { below().close(); }
  void expires_after(Milliseconds time) override { below().expires_after(time); }
  void expires_never() override { below().expires_never(); }

 private:
  boost::beast::tcp_stream& below() { return stream_.next_layer(); }

  boost::beast::ssl_stream<boost::beast::tcp_stream> stream_;
};

void require_readable(const std::string& file, const char* flag) {
  errno = 0;
  std::ifstream stream(file);
  if (stream && (stream.peek(), stream)) return;
  throw Error(
      ErrorCode::kUnreadable,
      fmt::format("{} {}: {}", flag, file, errno ? std::strerror(errno) : "can't be read, or is empty"));
}

}  // namespace

struct Tls::Context {
  ssl::context ssl{ssl::context::tls_server};
};

Tls::Tls(const std::string& certificate_file, const std::string& key_file)
    : context_(std::make_unique<Context>()) {
  ssl::context& context = context_->ssl;
  require_readable(certificate_file, "--tls-cert");
  require_readable(key_file, "--tls-key");
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  error_code error;
  context.set_password_callback([](size_t, ssl::context::password_purpose) { return std::string(); });
  context.use_certificate_chain_file(certificate_file, error);
  if (error)
    throw Error(ErrorCode::kUnreadable, fmt::format("--tls-cert {}: holds no certificate in PEM format ({})",
                                                    certificate_file, error.message()));
  context.use_private_key_file(key_file, ssl::context::pem, error);
  if (!error) return;
  const int reason = ERR_GET_REASON(static_cast<unsigned>(error.value()));
  if (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH)
    throw Error(ErrorCode::kUsage,
                fmt::format("--tls-key {}: is not the key of the certificate in {}; give the "
                            "key that it was made with",
                            key_file, certificate_file));
  throw Error(ErrorCode::kUnreadable,
              fmt::format("--tls-key {}: holds no private key in PEM format without a passphrase ({})",
                          key_file, error.message()));
}
Tls::~Tls() = default;

std::unique_ptr<ByteStream> Tls::stream(tcp::socket socket) {
  return std::make_unique<TlsStream>(std::move(socket), context_->ssl);
}

}  // namespace longspan::server
