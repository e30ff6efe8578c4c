// HcclAllReduce, HcclReduceScatter. Values are combined in f32 or integers, and rounded once: in rank order,
// or, part r of a scatter, from rank r + 1 round the group, since nothing promises an order.

#include <algorithm>

#include "hccl/collective.h"

using namespace cann_sim;

namespace {

template <class T>
T combine(HcclReduceOp op, T a, T b) {
  switch (op) {
    case HCCL_REDUCE_PROD:
      return a * b;
    case HCCL_REDUCE_MAX:
      return std::max(a, b);
    case HCCL_REDUCE_MIN:
      return std::min(a, b);
    default:
      return a + b;
  }
}

template <class T, class ElementsOf>
std::vector<T> reduced(const Meeting& met, uint64_t begin, uint64_t count, uint32_t first,
                       ElementsOf elements_of) {
  const auto ranks = static_cast<uint32_t>(met.calls.size());
  std::vector<T> result = elements_of(met.sent(first, begin, count), met.calls[0].dtype);
  for (uint32_t step = 1; step < ranks; ++step) {
    const std::vector<T> more =
        elements_of(met.sent((first + step) % ranks, begin, count), met.calls[0].dtype);
    for (size_t i = 0; i < result.size(); ++i) result[i] = combine(met.calls[0].op, result[i], more[i]);
  }
  return result;
}

// Elements [begin, begin + count) of all send buffers combined, to the start of the receive buffers `to`.
// `first`: the rank that the sum begins with.
void reduce_to(const Meeting& met, uint64_t begin, uint64_t count, uint32_t first,
               const std::vector<uint32_t>& to) {
  if (count == 0) return;
  const aclDataType dtype = met.calls[0].dtype;
  if (dtype == ACL_INT8 || dtype == ACL_INT32 || dtype == ACL_INT64) {
    const auto values = reduced<int64_t>(met, begin, count, first, integers_of);
    for (const uint32_t rank : to) store_integers(buffer(met.calls[rank], rank, false, 0, count), values);
  } else {
    const auto values = reduced<float>(met, begin, count, first, floats_of);
    for (const uint32_t rank : to) store(buffer(met.calls[rank], rank, false, 0, count), values);
  }
}

CollectiveCall reduction(const char* name, void* send, void* recv, uint64_t count, HcclDataType dtype,
                         HcclReduceOp op) {
  if (op < HCCL_REDUCE_SUM || op > HCCL_REDUCE_MIN)
    fail(HCCL_E_PARA, "{}: op {} is not one of 0..3", name, static_cast<int>(op));
  if (op == HCCL_REDUCE_PROD && dtype == HCCL_DATA_TYPE_BFP16)
    fail(HCCL_E_NOT_SUPPORT, "{}: PROD is not there for BFP16", name);
  if (dtype == HCCL_DATA_TYPE_UINT8) fail(HCCL_E_NOT_SUPPORT, "{}: UINT8 can't be reduced", name);
  return {.name = name,
          .agreed = fmt::format("{}, op {}, count {}", name_of(dtype), static_cast<int>(op), count),
          .op = op,
          .send = send,
          .recv = recv,
          .in_place = true,
          .count = count};
}

}  // namespace

extern "C" {

HcclResult HcclAllReduce(void* sendBuf, void* recvBuf, uint64_t count, HcclDataType dataType, HcclReduceOp op,
                         HcclComm comm, aclrtStream stream) {
  return guarded_hccl([&] {
    start_collective(comm, stream, dataType,
                     reduction("HcclAllReduce", sendBuf, recvBuf, count, dataType, op), count, count,
                     [](const Meeting& met) { reduce_to(met, 0, met.calls[0].count, 0, met.here); });
  });
}

HcclResult HcclReduceScatter(void* sendBuf, void* recvBuf, uint64_t recvCount, HcclDataType dataType,
                             HcclReduceOp op, HcclComm comm, aclrtStream stream) {
  return guarded_hccl([&] {
    const uint32_t ranks = communicator_of(comm, "HcclReduceScatter").group->size();
    start_collective(
        comm, stream, dataType, reduction("HcclReduceScatter", sendBuf, recvBuf, recvCount, dataType, op),
        recvCount * ranks, recvCount, [](const Meeting& met) {
          const uint64_t count = met.calls[0].count;
          for (const uint32_t rank : met.here)
            reduce_to(met, rank * count, count, (rank + 1) % static_cast<uint32_t>(met.calls.size()), {rank});
        });
  });
}

}  // extern "C"
