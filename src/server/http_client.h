#pragma once

#include <longspan/error.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace longspan::server {

/// "http://host:port/base": where a server is. Throws Error(kUsage) for what is none, https included.
struct HttpUrl {
  std::string host, port = "80", base;  // base: without a slash at its end
};
HttpUrl parse_url(const std::string& url);

struct HttpAnswer {
  int status = 0;
  std::string body;
};

/// A server that can't be reached, or that breaks off.
class NoAnswer : public Error {
 public:
  NoAnswer(const std::string& message, std::string reason)
      : Error(ErrorCode::kUnreadable, message), reason_(std::move(reason)) {}
  /// In a few words, the same for each such case: "Connection refused".
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

/// Asks one server, one request at a time, over a connection that is kept.
class HttpClient {
 public:
  HttpClient(HttpUrl url, std::string api_key, double timeout_s);
  ~HttpClient();

  /// Throws NoAnswer where there is none within the time limit, Error(kCancelled) after stop().
  HttpAnswer get(const std::string& path);
  HttpAnswer post(const std::string& path, const std::string& json);
  /// `on_body` gets the body of an answer with status 200 piece by piece as it comes, and must not throw;
  /// what is returned then has none.
  HttpAnswer post_stream(const std::string& path, const std::string& json,
                         const std::function<void(std::string_view)>& on_body);
  /// From any thread: what is under way and what comes later ends at once.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::server
