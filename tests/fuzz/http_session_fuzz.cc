#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "server/http_session.h"

using namespace longspan::server;
using boost::system::error_code;

namespace {

/// A client that sends `bytes` in pieces of `piece`, then waits for its answers and goes. What it gets is
/// kept.
class FuzzStream final : public ByteStream {
 public:
  FuzzStream(asio::io_context& io, std::string_view bytes, size_t piece, const bool& answering,
             std::string& got)
      : executor_(io.get_executor()), bytes_(bytes), piece_(piece), answering_(answering), got_(got) {}

  executor_type get_executor() override { return executor_; }
  asio::awaitable<error_code> open() override { co_return error_code(); }
  void read_some(asio::mutable_buffer buffer, Done done) override {
    if (reading_) std::abort();  // one at a time
    if (closed_) return finish(std::move(done), asio::error::bad_descriptor, 0);
    if (bytes_.empty() && answering_) {
      reading_ = std::move(done);  // until the answer is there
      return;
    }
    const size_t count = std::min({bytes_.size(), piece_, buffer.size()});
    std::copy_n(bytes_.data(), count, static_cast<char*>(buffer.data()));
    bytes_.remove_prefix(count);
    finish(std::move(done), count ? error_code() : error_code(asio::error::eof), count);
  }
  void write_some(asio::const_buffer buffer, Done done) override {
    if (closed_) return finish(std::move(done), asio::error::bad_descriptor, 0);
    const size_t count = std::min(buffer.size(), piece_);
    got_.append(static_cast<const char*>(buffer.data()), count);
    finish(std::move(done), {}, count);
  }
  void stop_reading() override {
    if (reading_) finish(std::exchange(reading_, nullptr), asio::error::operation_aborted, 0);
  }
  asio::awaitable<void> end() override { co_return; }
  void stop_sending() override {}
  void close() override {
    closed_ = true;
    stop_reading();
  }
  void expires_after(Milliseconds) override {}
  void expires_never() override {}

 private:
  void finish(Done done, error_code error, size_t count) {
    asio::post(executor_, [done = std::move(done), error, count] { done(error, count); });
  }

  const executor_type executor_;
  std::string_view bytes_;
  const size_t piece_;
  const bool& answering_;
  std::string& got_;
  Done reading_;
  bool closed_ = false;
};

/// Answers by what the request looks like, whole, streamed or not at all; holds what a handler may rely on.
class FuzzHost final : public SessionHost {
 public:
  void handle(std::shared_ptr<Exchange> exchange) override {
    const HttpRequest& request = exchange->request();
    if (request.body.size() > limits_.max_body || request.method.empty()) std::abort();
    if (request.path.find('?') != std::string::npos) std::abort();
    ++requests;
    if (request.path == "/stream") {
      exchange->begin_stream("text/event-stream");
      exchange->write("data: " + std::to_string(request.body.size()) + "\n\n");
      exchange->end_stream();
    } else if (request.path != "/dropped") {
      exchange->respond({.body = request.content_type + request.authorization + request.body});
    }
  }
  void answer_begins() override { answering = true; }
  void answered() override { answering = false; }
  bool draining() const override { return false; }
  const HttpLimits& http_limits() const override { return limits_; }
  void closed(HttpSession&) override { ++ended; }

  int requests = 0, ended = 0;
  bool answering = false;

 private:
  const HttpLimits limits_{.max_header = 512, .max_body = 2048};
};

int64_t count_of(std::string_view text, std::string_view what) {
  int64_t count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace

// A connection with any bytes on it: each request is answered once and in turn, what is no request is
// refused, and the connection ends. The first byte cuts the rest into pieces.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  asio::io_context io(1);
  FuzzHost host;
  std::string got;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t piece = data[0] == 0 ? bytes.size() + 1 : data[0];
  std::make_shared<HttpSession>(std::make_unique<FuzzStream>(io, bytes, piece, host.answering, got), host)
      ->start(false);
  io.run();
  if (host.ended != 1 || host.answering) std::abort();
  if (!got.empty() && !got.starts_with("HTTP/1.1 ")) std::abort();
  // Bodies hold what the client sent, so answers may be more than are ours, never fewer.
  if (count_of(got, "HTTP/1.1 ") < host.requests) std::abort();
  return 0;
}
