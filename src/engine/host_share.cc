#include "engine/host_share.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <fstream>
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

std::string this_host() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return fmt::format("{}/{}", name, boot);
}

std::string to_text(const HostPlace& place) {
  return fmt::format("{} {}", place.host, fmt::join(place.cores, " "));
}

HostPlace host_place_from_text(const std::string& text) {
  std::istringstream in(text);
  HostPlace place;
  in >> place.host;
  for (int core; in >> core;) place.cores.push_back(core);
  return place;
}

}  // namespace longspan
