#pragma once

#include <cstdint>
#include <string>

namespace longspan::server {

/// A TCP connection to 127.0.0.1, for tests that speak HTTP byte by byte. Waits at most ten seconds.
class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0);
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool send(const std::string& bytes);
  /// Until the text has `end`, the peer closes, or time is up.
  std::string read_until(const std::string& end);
  /// Until the peer closes; "(open)" is appended if it does not.
  std::string read_all();
  /// One answer with a Content-Length: header and body.
  std::string read_answer();
  void close();

 private:
  bool receive();

  int fd_ = -1;
  std::string pending_;
};

/// "GET /path HTTP/1.1", with a body as application/json.
std::string http_request(const std::string& method, const std::string& path, const std::string& body = "",
                         const std::string& headers = "");
int status_of(const std::string& answer);
std::string body_of(const std::string& answer);

}  // namespace longspan::server
