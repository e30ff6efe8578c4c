#pragma once

#include <longspan/error.h>

#include <string>
#include <vector>

namespace longspan::server {

/// What a front and rank 0 of its job tell each other: lines of text over a Unix socket. Nothing here waits;
/// both ends look every so often. Of one thread.
class RankLink {
 public:
  /// The front's end, which waits for one rank 0. Throws Error(kUsage).
  static RankLink listen(const std::string& socket_path);
  /// Rank 0's end. Throws Error(kUsage) where no front listens: rank 0 is on another machine, most likely.
  static RankLink connect(const std::string& socket_path);
  ~RankLink();
  RankLink(RankLink&& other) noexcept;
  RankLink(const RankLink&) = delete;

  /// One line; lost if nobody is there.
  void say(const std::string& line) noexcept;
  /// Whole lines that came since the last call.
  std::vector<std::string> hear();
  /// The other end has been there.
  bool met() const { return met_; }
  /// And is gone.
  bool over() const { return over_; }

 private:
  RankLink(int listener, int socket) : listener_(listener), socket_(socket), met_(socket >= 0) {}

  int listener_, socket_;  // -1: none
  bool met_, over_ = false;
  std::string heard_;  // the start of a line
};

/// A failure as a line, and back.
std::string failure_line(const Error& error);
bool is_failure(const std::string& line);
Error failure_of(const std::string& line);

}  // namespace longspan::server
