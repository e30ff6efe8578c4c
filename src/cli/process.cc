#include "cli/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

namespace longspan::cli {
namespace {

// What Open MPI, MPICH and Slurm tell the processes that they start.
constexpr std::array kLaunched = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};

// A signal handler can reach nothing but globals.
volatile std::sig_atomic_t g_catching = 0;
volatile std::sig_atomic_t g_interrupted = 0;

void on_interrupt(int) {
  if (!g_catching || g_interrupted) {
    constexpr char message[] = "\nlongspan: interrupted\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, message, sizeof message - 1);
    _exit(kExitInterrupted);
  }
  g_interrupted = 1;
}

// A mapped file that shrinks while it is in use can't be read any more; nothing else here raises this.
void on_bus_error(int) {
  constexpr char message[] =
      "\nlongspan: error: a model file became shorter while it was in use (was it truncated, or replaced in "
      "place?)\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, message, sizeof message - 1);
  _exit(kExitUnreadable);
}

}  // namespace

int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Context process_context() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a wait for input ends
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGBUS, on_bus_error);

  Context context{std::cout, std::cerr};
  context.in_fd = STDIN_FILENO;
  context.out_is_terminal = isatty(STDOUT_FILENO);
  context.err_is_terminal = isatty(STDERR_FILENO);
  std::error_code ignored;
  context.executable = std::filesystem::read_symlink("/proc/self/exe", ignored);
  context.open_engine = [](const EngineOptions& options) { return Engine::open(options); };
  context.launched = std::any_of(kLaunched.begin(), kLaunched.end(), std::getenv);
  if (const char* front = std::getenv(kFrontVariable)) context.front = front;
  unsetenv(kFrontVariable);  // no flag's
  context.join_mpi = join_mpi;
  context.follow = [](const EngineOptions& options) { Engine::follow(options); };
  context.now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  context.peak_memory_bytes = peak_memory_bytes;
  context.catch_interrupts = [] { g_catching = 1; };
  context.interrupted = [] { return g_interrupted != 0; };
  return context;
}

}  // namespace longspan::cli
