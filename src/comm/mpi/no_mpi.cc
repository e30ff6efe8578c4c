#include <longspan/error.h>

#include "comm/job.h"

namespace longspan {

bool mpi_is_there() {
  return false;
}

std::shared_ptr<Job> join_mpi_job(const JobOptions&) {
  throw Error(
      ErrorCode::kNotSupported,
      "ranks in several processes: this build has no MPI; start one process without mpirun and --comm mpi, "
      "or configure again where MPI is installed (Debian: libopenmpi-dev, openmpi-bin)");
}

}  // namespace longspan
