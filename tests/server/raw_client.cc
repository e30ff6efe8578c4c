#include "server/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace longspan::server {
namespace {

constexpr int kPatienceMs = 10'000;

}  // namespace

RawClient::RawClient(uint16_t port, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close();
    throw std::runtime_error("can't connect");
  }
}

void RawClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool RawClient::send(const std::string& bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<size_t>(count);
  }
  return true;
}

bool RawClient::receive() {
  pollfd poll_fd{fd_, POLLIN, 0};
  if (poll(&poll_fd, 1, kPatienceMs) <= 0) {
    pending_ += "(open)";
    return false;
  }
  char bytes[65536];
  const ssize_t count = recv(fd_, bytes, sizeof bytes, 0);
  if (count <= 0) return false;
  pending_.append(bytes, static_cast<size_t>(count));
  return true;
}

std::string RawClient::read_until(const std::string& end) {
  for (;;) {
    if (const size_t at = pending_.find(end); at != std::string::npos) {
      const std::string text = pending_.substr(0, at + end.size());
      pending_.erase(0, text.size());
      return text;
    }
    if (!receive()) return std::exchange(pending_, "");
  }
}

std::string RawClient::read_all() {
  while (receive()) {
  }
  return std::exchange(pending_, "");
}

std::string RawClient::read_answer() {
  std::string answer = read_until("\r\n\r\n");
  const size_t at = answer.find("Content-Length: ");
  if (at == std::string::npos) return answer;
  const size_t length = std::strtoul(answer.c_str() + at + 16, nullptr, 10);
  while (pending_.size() < length && receive()) {
  }
  answer += pending_.substr(0, length);
  pending_.erase(0, length);
  return answer;
}

std::string http_request(const std::string& method, const std::string& path, const std::string& body,
                         const std::string& headers) {
  std::string text = method + " " + path + " HTTP/1.1\r\nHost: test\r\n" + headers;
  if (!body.empty()) {
    text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  }
  return text + "\r\n" + body;
}

int status_of(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::atoi(answer.c_str() + 9) : 0;
}

std::string body_of(const std::string& answer) {
  const size_t at = answer.find("\r\n\r\n");
  return at == std::string::npos ? "" : answer.substr(at + 4);
}

}  // namespace longspan::server
