#pragma once

#include <memory>
#include <string>

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

/// Asks one server, one request at a time, over a connection that is kept.
class HttpClient {
 public:
  HttpClient(HttpUrl url, std::string api_key, double timeout_s);
  ~HttpClient();

  /// Throws Error(kUnreadable) where there is no answer within the time limit, Error(kCancelled) after
  /// stop().
  HttpAnswer get(const std::string& path);
  HttpAnswer post(const std::string& path, const std::string& json);
  /// From any thread: what is under way and what comes later ends at once.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::server
