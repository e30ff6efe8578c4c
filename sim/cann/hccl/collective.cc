#include "hccl/collective.h"

namespace cann_sim {

View buffer(const CollectiveCall& call, uint32_t rank, bool send, uint64_t offset, uint64_t count) {
  return {.label = fmt::format("{}: {} of rank {}", call.name, send ? "sendBuf" : "recvBuf", rank),
          .dims = {static_cast<int64_t>(count)},
          .strides = {1},
          .dtype = call.dtype,
          .data = static_cast<char*>(send ? call.send : call.recv) +
                  offset * static_cast<uint64_t>(size_of(call.dtype))};
}

void start_collective(HcclComm comm, aclrtStream stream, HcclDataType dtype, CollectiveCall call,
                      uint64_t send_elems, uint64_t recv_elems, CollectiveBody body) {
  const char* name = call.name.c_str();
  const Communicator& communicator = communicator_of(comm, name);
  Runtime& runtime = Runtime::get();
  Stream& on = runtime.stream_of(stream, name);
  if (on.device != communicator.device)
    fail(HCCL_E_PARA, "{}: the stream is of device {}, the communicator of device {}", name, on.device,
         communicator.device);
  call.dtype = acl_type(dtype, name);
  const auto size = static_cast<uint64_t>(size_of(call.dtype));
  const auto check = [&](const void* data, uint64_t elements, const char* which) {
    if (elements == 0) return;
    if (!data) fail(HCCL_E_PTR, "{}: {} is null", name, which);
    if (reinterpret_cast<uintptr_t>(data) % size != 0)
      fail(HCCL_E_PARA, "{}: {} is not aligned to its data type", name, which);
    runtime.memory().check(data, elements * size, fmt::format("{}: {}", name, which), HCCL_E_PARA);
  };
  check(call.send, send_elems, "sendBuf");
  check(call.recv, recv_elems, "recvBuf");
  communicator.group->enqueue(on, communicator.rank, std::move(call), std::move(body));
}

}  // namespace cann_sim
