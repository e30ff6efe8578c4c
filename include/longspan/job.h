#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace longspan {

/// The processes that one launcher (mpirun) started together, of which this is one. A layout's ranks are the
/// processes of the job in order. A process joins one job, once.
class Job;

/// Whether join_mpi can do what it says.
bool built_with_mpi();

struct JobPlace {
  int32_t rank = 0;
  int32_t size = 1;
};

/// Joins the job that mpirun started this process in; alone it is a job of one. A process that gives no sign
/// of life for `comm_timeout_s` ends the job. `told_to_stop`, where there is one, is asked from another
/// thread: once it says yes, a collective that waits for others is given up. Throws Error: kNotSupported in a
/// build without MPI, kUsage, kRankLost.
std::shared_ptr<Job> join_mpi(double comm_timeout_s, std::function<bool()> told_to_stop = {});

JobPlace place_in(const Job& job);

/// Throws Error(kRankLost) if the job is lost: for a process that waits for work, and so meets nobody.
void require_alive(Job& job);

/// To be called by every process when its engines are gone; returns when all have. Throws Error(kRankLost):
/// then the process ends by _exit, since MPI would wait for the lost one.
void leave(Job& job);

}  // namespace longspan
