#pragma once

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "ascend/simulator.h"

namespace longspan::testing_support {

/// One thing that a device's streams were given, or a host thread waited for.
struct Entry {
  int row = 0;  // stream
  std::string kind, name;
  uint64_t bytes = 0;
};

/// In the order of calls, since the simulator records.
inline std::vector<Entry> journal_of(const Simulator& simulator, int device) {
  std::istringstream in(simulator.journal(device));
  std::vector<Entry> entries;
  for (Entry e; in >> e.row >> e.kind >> e.name >> e.bytes;) entries.push_back(e);
  return entries;
}

inline uint64_t count_of(const std::vector<Entry>& entries, const std::string& kind,
                         const std::string& name = "") {
  return static_cast<uint64_t>(std::ranges::count_if(
      entries, [&](const Entry& e) { return e.kind == kind && (name.empty() || e.name == name); }));
}

/// What lies between one layer's (first) launch of attention and the next one's: as much as a layer has, once
/// for each layer but the last. `launches`: of attention in a layer.
inline std::vector<std::vector<Entry>> layers_of(const std::vector<Entry>& entries, int launches) {
  std::vector<std::vector<Entry>> layers;
  int seen = 0;
  for (const Entry& e : entries) {
    if (e.name == "aclnnFusedInferAttentionScoreV3" && seen++ % launches == 0) layers.emplace_back();
    if (!layers.empty()) layers.back().push_back(e);
  }
  if (!layers.empty()) layers.pop_back();
  return layers;
}

}  // namespace longspan::testing_support
