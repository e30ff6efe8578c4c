#include "comm/job.h"

#include <longspan/job.h>

#include "engine/request_rules.h"

namespace longspan {

std::shared_ptr<Job> join_mpi(double comm_timeout_s, std::function<bool()> told_to_stop) {
  JobOptions options;
  options.silence_limit = comm_timeout(comm_timeout_s);
  if (told_to_stop) options.told_to_stop = std::move(told_to_stop);
  return join_mpi_job(options);
}

bool built_with_mpi() {
  return mpi_is_there();
}

JobPlace place_in(const Job& job) {
  return {.rank = job.rank(), .size = job.size()};
}

void require_alive(Job& job) {
  job.require_alive();
}

void leave(Job& job) {
  job.leave();
}

}  // namespace longspan
