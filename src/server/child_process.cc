#include "server/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <longspan/error.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

namespace longspan::server {
namespace {

constexpr auto kExitPoll = std::chrono::milliseconds(10);
constexpr auto kPatience = std::chrono::milliseconds(5000);
constexpr int kUnknownStatus = -1;

// Not one socket of this process may live on in the program.
void close_on_exec_all() {
#ifdef CLOSE_RANGE_CLOEXEC
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
#endif
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  for (int fd = 3; fd < static_cast<int>(limit.rlim_cur); ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// In the child, where nothing may allocate.
[[noreturn]] void become(char* const* argv, char* const* envp, pid_t parent, int told) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);  // it went before that
  for (const int signal : {SIGPIPE, SIGCHLD}) std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  close_on_exec_all();
  execvpe(argv[0], argv, envp);
  const int error = errno;
  (void)!write(told, &error, sizeof error);
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& variables) {
  std::vector<std::string> all;
  for (const auto& [name, value] : variables) all.push_back(name + "=" + value);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (std::none_of(variables.begin(), variables.end(), [&](const auto& v) { return v.first == name; }))
      all.push_back(text);
  }
  return all;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           const std::vector<std::pair<std::string, std::string>>& variables) {
  std::vector<std::string> arguments = command, environment = environment_with(variables);
  const std::vector<char*> argv = pointers(arguments), envp = pointers(environment);
  int told[2];
  if (pipe2(told, O_CLOEXEC) != 0)
    throw Error(ErrorCode::kCapacity, fmt::format("can't open a pipe: {}", std::strerror(errno)));
  const pid_t parent = getpid();
  std::signal(SIGCHLD, SIG_DFL);  // one that is ignored, as is inherited, leaves nothing to wait for
  pid_ = fork();
  if (pid_ == 0) become(argv.data(), envp.data(), parent, told[1]);
  int error = pid_ < 0 ? errno : 0;
  close(told[1]);
  if (pid_ > 0 && read(told[0], &error, sizeof error) > 0) wait(kPatience);
  close(told[0]);
  if (error != 0)
    throw Error(ErrorCode::kUsage, fmt::format("can't run {}: {}", command[0], std::strerror(error)));
}

ChildProcess::~ChildProcess() {
  end(kPatience);
}

std::optional<int> ChildProcess::status() {
  if (status_) return status_;
  int status = 0;
  const pid_t ended = waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) status_ = status;
  if (ended < 0 && errno == ECHILD) status_ = kUnknownStatus;
  return status_;
}

// The whole group.
bool ChildProcess::gone() {
  if (!status()) return false;
  while (waitpid(-pid_, nullptr, WNOHANG) > 0) continue;  // orphans come to the first process of a container
  return kill(-pid_, 0) != 0;
}

void ChildProcess::end(std::chrono::milliseconds patience) {
  if (gone()) return;
  kill(-pid_, SIGTERM);
  if (wait(patience)) return;
  kill(-pid_, SIGKILL);
  wait(kPatience);
}

bool ChildProcess::wait(std::chrono::milliseconds patience) {
  for (const auto until = std::chrono::steady_clock::now() + patience; !gone();) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(kExitPoll);
  }
  return true;
}

std::string status_text(int status) {
  if (status == kUnknownStatus) return "has ended";
  return WIFSIGNALED(status) ? fmt::format("was killed by signal {}", WTERMSIG(status))
                             : fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

}  // namespace longspan::server
