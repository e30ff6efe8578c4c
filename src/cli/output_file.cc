#include "cli/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <longspan/error.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace longspan::cli {

OutputFile::OutputFile(const std::string& path, std::ostream& standard_output, int input_fd)
    : name_(path == "-" ? "standard output" : path) {
  if (path == "-") {
    stream_ = &standard_output;
    return;
  }
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(errno);
  struct stat out = {}, in = {};
  regular_ = fstat(fd_, &out) == 0 && S_ISREG(out.st_mode);
  if (regular_ && fstat(input_fd, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
    close(fd_);
    throw Error(ErrorCode::kUsage, fmt::format("{} is both input and output; give another -o", name_));
  }
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
}

void OutputFile::fail(int error) {
  throw Error(ErrorCode::kUnreadable, fmt::format("can't write {}: {}", name_, std::strerror(error)));
}

void OutputFile::truncate() {
  if (regular_ && ftruncate(fd_, 0) != 0) fail(errno);
}

void OutputFile::write_line(std::string_view line) {
  const std::string bytes = std::string(line) + "\n";
  if (stream_) {
    errno = 0;
    *stream_ << bytes << std::flush;
    if (!*stream_) fail(errno ? errno : EIO);
    return;
  }
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(fd_, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      if (regular_) [[maybe_unused]]
        const int cut = ftruncate(fd_, whole_lines_);
      fail(error);
    }
    done += static_cast<size_t>(count);
  }
  whole_lines_ += static_cast<int64_t>(bytes.size());
}

}  // namespace longspan::cli
