#include "engine/host_share.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace longspan {

HostShare share_host(std::span<const HostPlace> places, int32_t rank) {
  const HostPlace& mine = places[rank];
  HostShare share{.cores = {}, .oversubscribed = false, .processes = 0};
  size_t sharing = 0, index = 0;  // processes with my cores, and my place among them
  for (int32_t other = 0; other < std::ssize(places); ++other) {
    if (places[other].host != mine.host) continue;
    ++share.processes;
    if (places[other].cores != mine.cores) continue;
    if (other < rank) ++index;
    ++sharing;
  }
  const size_t cores = mine.cores.size();
  share.oversubscribed = sharing > cores;
  if (share.oversubscribed) {
    share.cores = {mine.cores[index % cores]};
  } else {
    const size_t each = cores / sharing;
    share.cores.assign(mine.cores.begin() + static_cast<std::ptrdiff_t>(index * each),
                       mine.cores.begin() + static_cast<std::ptrdiff_t>((index + 1) * each));
  }
  return share;
}

namespace {

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown CPU";
}

}  // namespace

std::string machine_text(size_t cores) {
  return fmt::format("{}, {}, {} cores", host_name(), cpu_model(), cores);
}

std::string this_host() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return fmt::format("{}/{}", host_name(), boot);
}

HostPlace this_place(std::vector<int> cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const bool known = sched_getaffinity(getppid(), sizeof(set), &set) == 0;
  return {.host = this_host(), .cores = std::move(cores), .launcher_cores = known ? CPU_COUNT(&set) : 0};
}

std::string binding_note(std::span<const HostPlace> places) {
  struct Host {
    std::set<int> cores;
    int processes = 0, launcher_cores = 0;
  };
  std::map<std::string, Host> hosts;
  for (const HostPlace& place : places) {
    Host& host = hosts[place.host];
    host.cores.insert(place.cores.begin(), place.cores.end());
    ++host.processes;
    host.launcher_cores = std::max(host.launcher_cores, place.launcher_cores);
  }
  for (const auto& [name, host] : hosts) {
    if (2 * std::ssize(host.cores) > host.launcher_cores) continue;
    return fmt::format(
        "on {} the launcher may use {} cores, and the process{} it started {} between them; Open MPI binds "
        "processes to cores unless mpirun is given --bind-to none",
        name.substr(0, name.find('/')), host.launcher_cores, host.processes == 1 ? "" : "es",
        host.cores.size());
  }
  return "";
}

std::string to_text(const HostPlace& place) {
  return fmt::format("{} {} {}", place.host, place.launcher_cores, fmt::join(place.cores, " "));
}

HostPlace host_place_from_text(const std::string& text) {
  std::istringstream in(text);
  HostPlace place = {};
  in >> place.host >> place.launcher_cores;
  for (int core; in >> core;) place.cores.push_back(core);
  return place;
}

}  // namespace longspan
