#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace longspan {

/// Where a process of a job runs.
struct HostPlace {
  std::string host;        // the same for processes that share memory and cores
  std::vector<int> cores;  // that it may use, ascending
  int32_t launcher_cores;  // how many its parent may use, which the launcher has bound to none
};

/// A process' part of its host.
struct HostShare {
  std::vector<int> cores;
  bool oversubscribed = false;  // more processes than cores: each has one that others have too
  int32_t processes = 1;        // of the job on this host
};

/// Processes of one host with the same cores divide them, in order of rank; a launcher that bound them to
/// different cores has done so already. `places` is of every process of the job.
HostShare share_host(std::span<const HostPlace> places, int32_t rank);

/// "NAME, CPU MODEL, 16 cores": what a measurement on this machine depends on.
std::string machine_text(size_t cores);

/// The name and the boot of the machine this runs on.
std::string this_host();

/// This process' place; `cores` are those it may use.
HostPlace this_place(std::vector<int> cores);

/// What to tell the user where the processes on a host may use half of its cores or fewer between them; empty
/// where they may use more. Open MPI binds two processes or fewer to one core each.
std::string binding_note(std::span<const HostPlace> places);

/// "HOST 8 0 1 2", and back.
std::string to_text(const HostPlace& place);
HostPlace host_place_from_text(const std::string& text);

}  // namespace longspan
