#include "hccl/collective_cost.h"

#include <algorithm>

#include "core/handles.h"

namespace cann_sim {
namespace {

/// Elements that one rank exchanges with each other one.
struct Traffic {
  uint64_t sum = 0, most = 0;
  void add(uint64_t elements) {
    sum += elements;
    most = std::max(most, elements);
  }
};

}  // namespace

Cost cost_of(const CollectiveCall& call, uint32_t rank, uint32_t ranks, uint64_t send, uint64_t recv) {
  Traffic in, out;
  for (uint32_t other = 0; other < ranks; ++other) {
    if (other == rank) continue;
    if (call.name == "HcclAllReduce") {
      in.add(2 * (send / ranks));
    } else if (call.name == "HcclReduceScatter") {
      in.add(recv);
    } else if (call.name == "HcclBroadcast") {
      if (other == call.root) in.add(recv);
      if (rank == call.root) out.add(send);
    } else if (!call.send_counts.empty()) {  // HcclAlltoAllV
      in.add(call.recv_counts[other]);
      out.add(call.send_counts[other]);
    } else if (!call.recv_counts.empty()) {  // HcclAllGatherV
      in.add(call.recv_counts[other]);
      out.add(send);
    } else {
      in.add(send);
    }
  }
  const auto size = static_cast<uint64_t>(size_of(call.dtype));
  return {.hbm_bytes = (send + recv) * size,
          .hccs_bytes = std::max(in.sum, out.sum) * size,
          .hccs_one_bytes = std::max(in.most, out.most) * size};
}

}  // namespace cann_sim
