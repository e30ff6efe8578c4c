#include "server/rank_link.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace longspan::server {
namespace {

constexpr const char* kFailed = "failed ";

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    throw Error(ErrorCode::kUsage, fmt::format("{}: too long for a socket, which takes {} bytes", path,
                                               sizeof(address.sun_path) - 1));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int open_socket() {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw Error(ErrorCode::kCapacity, fmt::format("can't open a socket: {}", std::strerror(errno)));
  return fd;
}

[[noreturn]] void fail(int fd, const std::string& what) {
  const std::string why = std::strerror(errno);
  ::close(fd);
  throw Error(ErrorCode::kUsage, fmt::format("{}: {}", what, why));
}

}  // namespace

RankLink RankLink::listen(const std::string& socket_path) {
  const sockaddr_un address = address_of(socket_path);
  const int fd = open_socket();
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 1) != 0)
    fail(fd, "can't listen at " + socket_path);
  return {fd, -1};
}

RankLink RankLink::connect(const std::string& socket_path) {
  const sockaddr_un address = address_of(socket_path);
  const int fd = open_socket();
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fail(fd, fmt::format("rank 0 must run on the machine of the server that started it, which is not at {}",
                         socket_path));
  return {-1, fd};
}

RankLink::RankLink(RankLink&& other) noexcept
    : listener_(std::exchange(other.listener_, -1)),
      socket_(std::exchange(other.socket_, -1)),
      met_(other.met_),
      over_(other.over_),
      heard_(std::move(other.heard_)) {}

RankLink::~RankLink() {
  for (const int fd : {listener_, socket_})
    if (fd >= 0) ::close(fd);
}

void RankLink::say(const std::string& line) noexcept {
  if (socket_ < 0) return;
  std::string sent = line;
  std::replace(sent.begin(), sent.end(), '\n', ' ');
  sent += '\n';
  (void)send(socket_, sent.data(), sent.size(), MSG_NOSIGNAL);  // a few short lines always fit
}

std::vector<std::string> RankLink::hear() {
  if (socket_ < 0 && listener_ >= 0) {
    socket_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    met_ = socket_ >= 0;
  }
  char piece[4096];
  while (socket_ >= 0 && !over_) {
    const ssize_t count = recv(socket_, piece, sizeof piece, 0);
    if (count > 0) {
      heard_.append(piece, static_cast<size_t>(count));
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      over_ = true;
    } else if (errno == EAGAIN) {
      break;
    }
  }
  std::vector<std::string> lines;
  for (size_t end; (end = heard_.find('\n')) != std::string::npos; heard_.erase(0, end + 1))
    lines.push_back(heard_.substr(0, end));
  return lines;
}

std::string failure_line(const Error& error) {
  return fmt::format("{}{} {}", kFailed, static_cast<int>(error.code()), error.what());
}

bool is_failure(const std::string& line) {
  return line.starts_with(kFailed);
}

Error failure_of(const std::string& line) {
  const std::string rest = line.substr(std::strlen(kFailed));
  const size_t space = std::min(rest.find(' '), rest.size() - 1);
  return Error(static_cast<ErrorCode>(std::atoi(rest.c_str())), rest.substr(space + 1));
}

}  // namespace longspan::server
