#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>

namespace longspan::cli {

/// Everything a command needs from the process around it.
struct Context {
  std::ostream& out;  // results
  std::ostream& err;  // progress, notes and errors, for people
  int in_fd = 0;      // "-" as an input file; not owned
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  std::filesystem::path executable = {};  // where data files are looked for

  std::function<std::unique_ptr<Engine>(const EngineOptions&)> open_engine = {};
  /// One of several processes that an MPI launcher started.
  bool launched = false;
  /// Where the front of this process' job waits for rank 0; empty: there is none.
  std::filesystem::path front = {};
  /// Joins the job of the launcher that started this process (Engine options' job).
  std::function<std::shared_ptr<Job>(double comm_timeout_s, std::function<bool()> told_to_stop)> join_mpi =
      {};
  std::function<void(const EngineOptions&)> follow = {};  // Engine::follow
  std::function<double()> now = {};                       // seconds on a steady clock
  std::function<int64_t()> peak_memory_bytes = {};        // largest resident size so far, bytes; 0: unknown
  /// From here on an interrupt sets a flag instead of ending the process, so that a command can finish its
  /// output; a second interrupt ends it all the same.
  std::function<void()> catch_interrupts = {};
  std::function<bool()> interrupted = {};
};

inline constexpr int kExitOk = 0;
inline constexpr int kExitRequestFailed = 1;  // also: a broken invariant
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreadable = 3;
inline constexpr int kExitCapacity = 4;
inline constexpr int kExitRankLost = 5;
inline constexpr int kExitInterrupted = 130;

/// The exit code for an error that ends the process.
int exit_code(ErrorCode code);

}  // namespace longspan::cli
