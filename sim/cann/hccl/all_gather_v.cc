// HcclAllGatherV: newer releases only. Counts and displacements are elements, in host memory; recvCounts must
// be the same on every rank.

#include <fmt/ranges.h>

#include "hccl/collective.h"

using namespace cann_sim;

extern "C" HcclResult HcclAllGatherV(void* sendBuf, uint64_t sendCount, void* recvBuf, const void* recvCounts,
                                     const void* recvDispls, HcclDataType dataType, HcclComm comm,
                                     aclrtStream stream) {
  return guarded_hccl([&] {
    constexpr const char* name = "HcclAllGatherV";
    const Communicator& communicator = communicator_of(comm, name);
    const uint32_t ranks = communicator.group->size();
    CollectiveCall call{.name = name,
                        .send = sendBuf,
                        .recv = recvBuf,
                        .count = sendCount,
                        .recv_counts = host_counts(recvCounts, ranks, name, "recvCounts"),
                        .recv_displs = host_counts(recvDispls, ranks, name, "recvDispls")};
    call.agreed = fmt::format("{}, counts {}", name_of(dataType), fmt::join(call.recv_counts, " "));
    if (const uint64_t mine = call.recv_counts[communicator.rank]; sendCount != mine)
      fail(HCCL_E_PARA, "{}: sendCount {} is not recvCounts[{}] = {}", name, sendCount, communicator.rank,
           mine);
    const uint64_t received = end_of(call.recv_counts, call.recv_displs);
    start_collective(comm, stream, dataType, std::move(call), sendCount, received,
                     [](const Meeting& met) {
                       for (uint32_t from = 0; from < met.calls.size(); ++from) {
                         const std::vector<char> bytes = met.sent(from, 0, met.calls[from].count);
                         for (const uint32_t to : met.here)
                           store_bytes(buffer(met.calls[to], to, false, met.calls[to].recv_displs[from],
                                              met.calls[to].recv_counts[from]),
                                       bytes);
                       }
                     });
  });
}
