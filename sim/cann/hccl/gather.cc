// HcclBarrier, HcclAllGather, HcclBroadcast, HcclAlltoAllV.

#include "hccl/collective.h"

using namespace cann_sim;

extern "C" {

HcclResult HcclBarrier(HcclComm comm, aclrtStream stream) {
  return guarded_hccl([&] {
    start_collective(comm, stream, HCCL_DATA_TYPE_INT8, {.name = "HcclBarrier", .agreed = ""}, 0, 0,
                     [](const Meeting&) {});
  });
}

HcclResult HcclAllGather(void* sendBuf, void* recvBuf, uint64_t sendCount, HcclDataType dataType,
                         HcclComm comm, aclrtStream stream) {
  return guarded_hccl([&] {
    const uint32_t ranks = communicator_of(comm, "HcclAllGather").group->size();
    start_collective(comm, stream, dataType,
                     {.name = "HcclAllGather",
                      .agreed = fmt::format("{}, count {}", name_of(dataType), sendCount),
                      .send = sendBuf,
                      .recv = recvBuf,
                      .count = sendCount},
                     sendCount, sendCount * ranks, [](const Meeting& met) {
                       const uint64_t count = met.calls[0].count;
                       for (uint32_t from = 0; from < met.calls.size(); ++from) {
                         const std::vector<char> bytes = met.sent(from, 0, count);
                         for (const uint32_t to : met.here)
                           store_bytes(buffer(met.calls[to], to, false, from * count, count), bytes);
                       }
                     });
  });
}

HcclResult HcclBroadcast(void* buf, uint64_t count, HcclDataType dataType, uint32_t root, HcclComm comm,
                         aclrtStream stream) {
  return guarded_hccl([&] {
    const Communicator& communicator = communicator_of(comm, "HcclBroadcast");
    if (root >= communicator.group->size()) fail(HCCL_E_PARA, "HcclBroadcast: root {}", root);
    start_collective(comm, stream, dataType,
                     {.name = "HcclBroadcast",
                      .agreed = fmt::format("{}, count {}, root {}", name_of(dataType), count, root),
                      .root = root,
                      .send = buf,
                      .recv = buf,
                      .in_place = true,
                      .count = count,
                      .read = CollectiveCall::Parts{{0, communicator.rank == root ? count : 0}}},
                     count, count, [](const Meeting& met) {
                       const uint32_t from = met.calls[0].root;
                       const uint64_t count = met.calls[0].count;
                       const std::vector<char> bytes = met.sent(from, 0, count);
                       for (const uint32_t to : met.here)
                         if (to != from) store_bytes(buffer(met.calls[to], to, false, 0, count), bytes);
                     });
  });
}

HcclResult HcclAlltoAllV(const void* sendBuf, const void* sendCounts, const void* sdispls,
                         HcclDataType sendType, const void* recvBuf, const void* recvCounts,
                         const void* rdispls, HcclDataType recvType, HcclComm comm, aclrtStream stream) {
  return guarded_hccl([&] {
    constexpr const char* name = "HcclAlltoAllV";
    const uint32_t ranks = communicator_of(comm, name).group->size();
    if (sendType != recvType) fail(HCCL_E_PARA, "{}: send and receive types differ", name);
    if (sendBuf == recvBuf) fail(HCCL_E_PARA, "{}: send and receive buffers must differ", name);
    CollectiveCall call{.name = name,
                        .agreed = name_of(sendType),
                        .send = const_cast<void*>(sendBuf),
                        .recv = const_cast<void*>(recvBuf),
                        .send_counts = host_counts(sendCounts, ranks, name, "sendCounts"),
                        .send_displs = host_counts(sdispls, ranks, name, "sdispls"),
                        .recv_counts = host_counts(recvCounts, ranks, name, "recvCounts"),
                        .recv_displs = host_counts(rdispls, ranks, name, "rdispls")};
    const uint64_t sent = end_of(call.send_counts, call.send_displs);
    const uint64_t received = end_of(call.recv_counts, call.recv_displs);
    call.read = CollectiveCall::Parts();
    for (uint32_t to = 0; to < ranks; ++to)
      call.read->emplace_back(call.send_displs[to], call.send_counts[to]);
    start_collective(comm, stream, sendType, std::move(call), sent, received, [](const Meeting& met) {
      for (uint32_t to = 0; to < met.calls.size(); ++to) {
        for (uint32_t from = 0; from < met.calls.size(); ++from) {
          const CollectiveCall &s = met.calls[from], &r = met.calls[to];
          if (s.send_counts[to] != r.recv_counts[from])
            fail(ACL_ERROR_RT_AICORE_EXCEPTION,
                 "HcclAlltoAllV: rank {} sends {} elements to rank {}, which expects {}", from,
                 s.send_counts[to], to, r.recv_counts[from]);
        }
      }
      for (const uint32_t to : met.here) {
        for (uint32_t from = 0; from < met.calls.size(); ++from) {
          const CollectiveCall &s = met.calls[from], &r = met.calls[to];
          store_bytes(buffer(r, to, false, r.recv_displs[from], r.recv_counts[from]),
                      met.sent(from, s.send_displs[to], s.send_counts[to]));
        }
      }
    });
  });
}

}  // extern "C"
