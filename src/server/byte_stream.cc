#include "server/byte_stream.h"

namespace longspan::server {
namespace {

template <class Protocol>
class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(typename Protocol::socket socket) : stream_(std::move(socket)) {}

  executor_type get_executor() override { return stream_.get_executor(); }
  asio::awaitable<error_code> open() override { co_return error_code(); }
  void read_some(asio::mutable_buffer buffer, Done done) override {
    stream_.async_read_some(buffer, std::move(done));
  }
  void write_some(asio::const_buffer buffer, Done done) override {
    stream_.async_write_some(buffer, std::move(done));
  }
  void stop_reading() override {
    error_code ignored;
    stream_.socket().cancel(ignored);
  }
  asio::awaitable<void> end() override {
    error_code ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_both, ignored);
    co_return;
  }
  void stop_sending() override {
    error_code ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void close() override { stream_.close(); }
  void expires_after(Milliseconds time) override { stream_.expires_after(time); }
  void expires_never() override { stream_.expires_never(); }

 private:
  boost::beast::basic_stream<Protocol> stream_;
};

}  // namespace

std::unique_ptr<ByteStream> plain_stream(tcp::socket socket) {
  return std::make_unique<PlainStream<tcp>>(std::move(socket));
}
std::unique_ptr<ByteStream> plain_stream(unix_socket::socket socket) {
  return std::make_unique<PlainStream<unix_socket>>(std::move(socket));
}

}  // namespace longspan::server
