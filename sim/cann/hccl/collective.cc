#include "hccl/collective.h"

#include <algorithm>

#include "core/garbage.h"
#include "hccl/collective_cost.h"

namespace cann_sim {

std::vector<uint64_t> host_counts(const void* array, uint32_t size, const char* call, const char* name) {
  if (!array) fail(HCCL_E_PTR, "{}: {} is null", call, name);
  if (Runtime::get().memory().is_device_address(array))
    fail(HCCL_E_PARA, "{}: {} must be host memory", call, name);
  const auto* values = static_cast<const uint64_t*>(array);
  return {values, values + size};
}

uint64_t end_of(const std::vector<uint64_t>& counts, const std::vector<uint64_t>& displs) {
  uint64_t end = 0;
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] > 0) end = std::max(end, displs[i] + counts[i]);
  return end;
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
    if (const int device = runtime.memory().device_of(data); device != communicator.device)
      fail(HCCL_E_PARA, "{}: {} lies on device {}, the communicator is of device {}", name, which, device,
           communicator.device);
  };
  check(call.send, send_elems, "sendBuf");
  check(call.recv, recv_elems, "recvBuf");
  const bool one = call.in_place && call.send == call.recv && send_elems == recv_elems;
  const auto begin = [](void* data) { return static_cast<const char*>(data); };
  if (!one && send_elems > 0 && recv_elems > 0 && begin(call.send) < begin(call.recv) + recv_elems * size &&
      begin(call.recv) < begin(call.send) + send_elems * size)
    fail(HCCL_E_PARA, "{}: sendBuf and recvBuf overlap", name);
  call.cost = cost_of(call, communicator.rank, communicator.group->size(), send_elems, recv_elems);
  const Disturbance what = runtime.disturbed(name);
  call.stall = what.stall;
  if (what.garbage != 0)
    call.afterwards = [received = buffer(call, communicator.rank, false, 0, recv_elems),
                       seed = what.garbage] { spoil(received, seed); };
  if (!call.read) call.read = CollectiveCall::Parts{{0, send_elems}};
  communicator.group->enqueue(on, communicator.rank, std::move(call), std::move(body));
}

}  // namespace cann_sim
