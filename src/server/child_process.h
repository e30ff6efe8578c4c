#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace longspan::server {

/// A program that this process started, with what that starts in its process group. (Ranks are not in it:
/// Open MPI gives each a group of its own, and ends them itself.) The program gets SIGTERM when the thread
/// that started it ends, however that is.
class ChildProcess {
 public:
  /// In a session of its own, without standard input, and with `variables` in its environment beside those
  /// of this process, which no longer ignores SIGCHLD from here on. Throws Error(kUsage) if the program,
  /// looked for in PATH, can't be run.
  ChildProcess(const std::vector<std::string>& command,
               const std::vector<std::pair<std::string, std::string>>& variables);
  /// end() within five seconds.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;

  /// As waitpid gives it, once the program has ended; -1 if another part of this process has asked for it.
  std::optional<int> status();
  /// SIGTERM to its process group, and SIGKILL to what is left of it after `patience`.
  void end(std::chrono::milliseconds patience);

 private:
  bool gone();
  bool wait(std::chrono::milliseconds patience);

  pid_t pid_ = -1;
  std::optional<int> status_;
};

/// "ended with exit code 3", "was killed by signal 9".
std::string status_text(int status);

}  // namespace longspan::server
