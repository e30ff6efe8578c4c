#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace longspan::cli {

/// Result lines go out one by one, each in one piece: a reader never sees half a line, and after a failed
/// write (a full disk) a regular file is cut back to its last whole line. Throws Error(kUnreadable).
class OutputFile {
 public:
  /// Opens or creates `path` without touching what it holds; "-" means `standard_output`. Refuses
  /// (Error(kUsage)) a file that is open as `input_fd`: writing would destroy what is still to be read.
  OutputFile(const std::string& path, std::ostream& standard_output, int input_fd);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Drops what a regular file held before.
  void truncate();
  void write_line(std::string_view line);

 private:
  [[noreturn]] void fail(int error);

  std::string name_;
  std::ostream* stream_ = nullptr;  // for "-"
  int fd_ = -1;
  bool regular_ = false;
  int64_t whole_lines_ = 0;  // bytes
};

}  // namespace longspan::cli
