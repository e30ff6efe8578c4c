#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "server/asio.h"

namespace longspan::server {

/// The bytes of one connection, whatever carries them. All on the io thread; one read and one write at a
/// time.
class ByteStream {
 public:
  using executor_type = asio::any_io_executor;
  using Milliseconds = std::chrono::milliseconds;
  /// Never called before the function returns that got it.
  using Done = std::function<void(error_code, size_t bytes)>;

  virtual ~ByteStream() = default;
  virtual executor_type get_executor() = 0;

  /// What must happen before the first byte; once.
  virtual asio::awaitable<error_code> open() = 0;
  virtual void read_some(asio::mutable_buffer buffer, Done done) = 0;
  virtual void write_some(asio::const_buffer buffer, Done done) = 0;
  /// A read that is under way ends with an error; others may follow.
  virtual void stop_reading() = 0;
  /// Tells the peer, in whatever way is orderly, that it was all; at the end of a connection.
  virtual asio::awaitable<void> end() = 0;
  /// Nothing more is sent, but what comes can still be read.
  virtual void stop_sending() = 0;
  virtual void close() = 0;

  /// For what begins from here on.
  virtual void expires_after(Milliseconds time) = 0;
  virtual void expires_never() = 0;

  /// As Boost's readers and coroutines want it.
  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(error_code, size_t)>(
        [this](auto handler, asio::mutable_buffer buffer) { read_some(buffer, shared(std::move(handler))); },
        token, asio::mutable_buffer(*asio::buffer_sequence_begin(buffers)));
  }
  template <class Token>
  auto async_write_some(asio::const_buffer data, Token&& token) {
    return asio::async_initiate<Token, void(error_code, size_t)>(
        [this](auto handler, asio::const_buffer buffer) { write_some(buffer, shared(std::move(handler))); },
        token, data);
  }

 private:
  // A Done can be copied, a handler need not be.
  template <class Handler>
  static Done shared(Handler handler) {
    return [kept = std::make_shared<Handler>(std::move(handler))](error_code error, size_t bytes) {
      (*kept)(error, bytes);
    };
  }
};

std::unique_ptr<ByteStream> plain_stream(tcp::socket socket);
std::unique_ptr<ByteStream> plain_stream(unix_socket::socket socket);

}  // namespace longspan::server
