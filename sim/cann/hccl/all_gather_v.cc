// HcclAllGatherV: newer releases only. Counts and displacements are elements, in host memory; recvCounts must
// be the same on every rank.

#include <fmt/ranges.h>

#include <algorithm>

#include "hccl/collective.h"

using namespace cann_sim;

extern "C" HcclResult HcclAllGatherV(void* sendBuf, uint64_t sendCount, void* recvBuf, const void* recvCounts,
                                     const void* recvDispls, HcclDataType dataType, HcclComm comm,
                                     aclrtStream stream) {
  return guarded_hccl([&] {
    constexpr const char* name = "HcclAllGatherV";
    const Communicator& communicator = communicator_of(comm, name);
    const uint32_t ranks = communicator.group->size();
    if (!recvCounts || !recvDispls) fail(HCCL_E_PTR, "{}: recvCounts or recvDispls is null", name);
    for (const void* array : {recvCounts, recvDispls})
      if (Runtime::get().memory().is_device_address(array))
        fail(HCCL_E_PARA, "{}: recvCounts and recvDispls must be host memory", name);
    const auto* counts = static_cast<const uint64_t*>(recvCounts);
    const auto* displs = static_cast<const uint64_t*>(recvDispls);
    CollectiveCall call{.name = name,
                        .send = sendBuf,
                        .recv = recvBuf,
                        .count = sendCount,
                        .recv_counts = {counts, counts + ranks},
                        .recv_displs = {displs, displs + ranks}};
    call.agreed = fmt::format("{}, counts {}", name_of(dataType), fmt::join(call.recv_counts, " "));
    if (sendCount != counts[communicator.rank])
      fail(HCCL_E_PARA, "{}: sendCount {} is not recvCounts[{}] = {}", name, sendCount, communicator.rank,
           counts[communicator.rank]);
    uint64_t received = 0;
    for (uint32_t r = 0; r < ranks; ++r)
      if (counts[r] > 0) received = std::max(received, displs[r] + counts[r]);
    start_collective(comm, stream, dataType, std::move(call), sendCount, received,
                     [](const std::vector<CollectiveCall>& calls) {
                       for (uint32_t to = 0; to < calls.size(); ++to)
                         for (uint32_t from = 0; from < calls.size(); ++from)
                           store_bytes(buffer(calls[to], to, false, calls[to].recv_displs[from],
                                              calls[to].recv_counts[from]),
                                       load_bytes(buffer(calls[from], from, true, 0, calls[from].count)));
                     });
  });
}
