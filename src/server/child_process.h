#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace longspan::server {

/// A program that this process started. It gets SIGTERM when the thread that started it ends, however that
/// is.
class ChildProcess {
 public:
  /// In a session of its own, without standard input, and with `variables` in its environment beside those
  /// of this process. Throws Error(kUsage) if the program, looked for in PATH, can't be run.
  ChildProcess(const std::vector<std::string>& command,
               const std::vector<std::pair<std::string, std::string>>& variables);
  /// end() within five seconds.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;

  /// As waitpid gives it, once the program has ended.
  std::optional<int> status();
  /// SIGTERM, and SIGKILL to its whole process group if that takes longer than `patience`.
  void end(std::chrono::milliseconds patience);

 private:
  bool wait(std::chrono::milliseconds patience);

  pid_t pid_ = -1;
  std::optional<int> status_;
};

/// "ended with exit code 3", "was killed by signal 9".
std::string status_text(int status);

}  // namespace longspan::server
