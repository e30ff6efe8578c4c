#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace longspan {

struct JobOptions {
  /// A process that gives no sign of life for longer is lost.
  std::chrono::milliseconds silence_limit{60'000};
  /// True once this process was asked to end; called now and then from a thread of the job. Then a collective
  /// that still waits for others is given up.
  std::function<bool()> told_to_stop = [] { return false; };
};

/// The processes that one launcher started together, of which this is one. They watch each other: a process
/// that stops answering, or a communicator that ends in an error, ends the whole job, and every call on every
/// communicator of it throws Error(kRankLost) with the first reason.
class Job {
 public:
  /// Leaves, unless that was done or the job is lost.
  virtual ~Job() = default;
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;

  /// This process' place among `ranks` (ascending, rank() among them); nothing travels. The others make the
  /// same group. Groups that have two processes in common need different channels, 1 or more. A collective
  /// may take `limit`, or, where that is empty, as long as everyone it waits for is alive. A process that has
  /// left the job in order makes it throw Error(kCancelled) if that was process 0.
  virtual std::unique_ptr<Communicator> make_group(std::vector<int32_t> ranks, int32_t channel,
                                                   std::optional<std::chrono::milliseconds> limit) = 0;

  /// Bytes that this process holds for messages, of all groups.
  virtual int64_t staging_bytes() const = 0;

  /// Throws Error(kRankLost) if the job is lost.
  virtual void require_alive() = 0;
  /// Why the job is lost; empty while it is not.
  virtual std::string lost() = 0;

  /// Ends the job: every process learns the reason. Never throws; the first reason is kept.
  virtual void abort(std::string_view reason) noexcept = 0;

  /// Returns when every process has left; nothing may be under way here. Throws Error(kRankLost): then the
  /// process should end at once, by _exit.
  virtual void leave() = 0;
};

/// Whether this build has MPI.
bool mpi_is_there();

/// Joins the job of mpirun or another MPI launcher; a process started by itself is a job of one. At most once
/// per process: MPI is initialised here, on a thread of the job that alone calls it. Throws Error:
/// kNotSupported where the build has no MPI, kUsage where MPI is in use already, kRankLost where the others
/// don't come up in time.
std::shared_ptr<Job> join_mpi_job(const JobOptions& options);

}  // namespace longspan
