#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace longspan::cli {

/// A file open for reading, or standard input ("-"). Throws Error(kUnreadable) naming the file and the
/// reason, also for a directory.
class InputFile {
 public:
  /// `stdin_fd` is used for "-" and stays open.
  InputFile(const std::string& path, int stdin_fd);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int fd() const { return fd_; }
  const std::string& name() const { return name_; }

  /// Reads up to `size` bytes; 0 at the end; -1 if a signal came first.
  ptrdiff_t read(char* buffer, size_t size);
  /// To the end. Throws Error(kCancelled) once `interrupted` says so, which is asked after every read and
  /// every signal.
  std::string read_all(const std::function<bool()>& interrupted = [] { return false; });

 private:
  std::string name_;  // for messages
  int fd_ = -1;
  bool owned_ = false;
};

/// Hands out lines as they arrive, without waiting longer than asked, so that the caller can go on computing.
class LineReader {
 public:
  enum class Status { kLine, kTooLong, kNotYet, kEnd };

  /// A line of more than `max_bytes` is dropped and reported as kTooLong.
  LineReader(InputFile& file, size_t max_bytes) : file_(file), max_bytes_(max_bytes) {}

  /// Waits up to `timeout_ms` for the next line, without its line end. A last line may lack one.
  Status next(std::string& line, int timeout_ms);

 private:
  bool take_line(std::string& line, Status& status);

  InputFile& file_;
  size_t max_bytes_;
  std::string buffer_;
  size_t begin_ = 0;    // of the first line not handed out
  size_t scanned_ = 0;  // no line end in [begin_, scanned_)
  bool dropping_ = false;
  bool end_ = false;
};

}  // namespace longspan::cli
