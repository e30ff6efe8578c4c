#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "server/asio.h"

namespace longspan::server {

/// Reads the body of a message whose header has been read and calls `on_piece(std::string)` with what of it
/// has come, as soon as it has. (Beast's async_read_some keeps the last chunk until the next one begins: the
/// end of line after it counts as the next one's.)
template <class Stream, class OnPiece>
asio::awaitable<error_code> read_pieces(Stream& stream, boost::beast::flat_buffer& buffer,
                                        http::response_parser<http::string_body>& parser, OnPiece on_piece) {
  constexpr size_t kReadSize = 64 << 10;
  parser.eager(true);
  while (!parser.is_done()) {
    error_code error = http::error::need_more;
    if (buffer.size() > 0) buffer.consume(parser.put(buffer.data(), error));
    std::string& piece = parser.get().body();
    if (!piece.empty()) on_piece(std::exchange(piece, std::string()));
    if (error && error != http::error::need_more) co_return error;
    if (parser.is_done()) break;
    const size_t count = co_await stream.async_read_some(buffer.prepare(kReadSize),
                                                         asio::redirect_error(asio::use_awaitable, error));
    buffer.commit(count);
    if (error == asio::error::eof) parser.put_eof(error);
    if (error) co_return error;
  }
  co_return error_code();
}

}  // namespace longspan::server
