#include "cli/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <longspan/error.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace longspan::cli {
namespace {

[[noreturn]] void unreadable(const std::string& name, int error) {
  throw Error(ErrorCode::kUnreadable, fmt::format("can't read {}: {}", name, std::strerror(error)));
}

}  // namespace

InputFile::InputFile(const std::string& path, int stdin_fd) : name_(path == "-" ? "standard input" : path) {
  if (path == "-") {
    fd_ = stdin_fd;
  } else {
    fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) unreadable(name_, errno);
    owned_ = true;
  }
  struct stat info = {};
  if (fstat(fd_, &info) == 0 && S_ISDIR(info.st_mode)) {
    if (owned_) close(fd_);
    throw Error(ErrorCode::kUnreadable, fmt::format("can't read {}: it is a folder, not a file", name_));
  }
}

InputFile::~InputFile() {
  if (owned_) close(fd_);
}

ptrdiff_t InputFile::read(char* buffer, size_t size) {
  const ssize_t count = ::read(fd_, buffer, size);
  if (count < 0 && errno != EINTR && errno != EAGAIN) unreadable(name_, errno);
  return count;
}

std::string InputFile::read_all(const std::function<bool()>& interrupted) {
  std::string text;
  for (;;) {
    const size_t used = text.size();
    text.resize(used + (size_t{1} << 16));
    const ptrdiff_t count = read(text.data() + used, text.size() - used);
    text.resize(used + std::max<ptrdiff_t>(count, 0));
    if (count == 0) return text;
    if (interrupted()) throw Error(ErrorCode::kCancelled, "interrupted");
  }
}

bool LineReader::take_line(std::string& line, Status& status) {
  const size_t newline = buffer_.find('\n', scanned_);
  const bool found = newline != std::string::npos;
  const size_t end = found ? newline : buffer_.size();
  if (end - begin_ > max_bytes_) dropping_ = true;
  if (!found && !end_) {
    if (dropping_) {
      buffer_.clear();
      begin_ = 0;
    }
    scanned_ = buffer_.size();
    return false;
  }
  if (!found && end == begin_ && !dropping_) return false;
  status = dropping_ ? Status::kTooLong : Status::kLine;
  line.clear();
  if (!dropping_) line.assign(buffer_, begin_, end - begin_);
  if (line.ends_with('\r')) line.pop_back();
  dropping_ = false;
  begin_ = scanned_ = found ? end + 1 : end;
  return true;
}

LineReader::Status LineReader::next(std::string& line, int timeout_ms) {
  for (;;) {
    Status status = Status::kLine;
    if (take_line(line, status)) return status;
    if (end_) return Status::kEnd;
    pollfd ready = {file_.fd(), POLLIN, 0};
    if (poll(&ready, 1, timeout_ms) <= 0) return Status::kNotYet;
    buffer_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
    const size_t used = buffer_.size();
    buffer_.resize(used + (size_t{1} << 16));
    const ptrdiff_t count = file_.read(buffer_.data() + used, buffer_.size() - used);
    buffer_.resize(used + std::max<ptrdiff_t>(count, 0));
    if (count < 0) return Status::kNotYet;
    end_ = count == 0;
  }
}

}  // namespace longspan::cli
