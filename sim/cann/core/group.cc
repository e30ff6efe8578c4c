#include "core/group.h"

#include <fmt/ranges.h>

#include "core/handles.h"

namespace cann_sim {

View buffer(const CollectiveCall& call, uint32_t rank, bool send, uint64_t offset, uint64_t count) {
  return {.label = fmt::format("{}: {} of rank {}", call.name, send ? "sendBuf" : "recvBuf", rank),
          .dims = {static_cast<int64_t>(count)},
          .strides = {1},
          .dtype = call.dtype,
          .data = static_cast<char*>(send ? call.send : call.recv) +
                  offset * static_cast<uint64_t>(size_of(call.dtype))};
}

void compare(const std::vector<CollectiveCall>& calls) {
  const CollectiveCall& first = calls[0];
  for (uint32_t rank = 1; rank < calls.size(); ++rank) {
    const CollectiveCall& call = calls[rank];
    if (call.name != first.name || call.agreed != first.agreed)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION,
           "EI0002: collectives disagree: rank 0 is in {} ({}), rank {} in {} ({})", first.name, first.agreed,
           rank, call.name, call.agreed);
  }
}

Fault never_came(const std::string& collective, int64_t seconds, const std::vector<uint32_t>& missing,
                 uint32_t ranks) {
  return {ACL_ERROR_RT_AICORE_EXCEPTION,
          fmt::format("EI0002: {}: notify wait time-out after {} s; ranks that never came: {} of {}",
                      collective, seconds, fmt::join(missing, ", "), ranks)};
}

void count_collective(const CollectiveCall& call) {
  Runtime& runtime = Runtime::get();
  runtime.count("collective");
  runtime.count("collective:" + call.name);
  runtime.count("collective:bytes", call.cost.hccs_bytes);
}

Communicator& communicator_of(HcclComm handle, const char* call) {
  if (!handle) fail(HCCL_E_PTR, "{}: comm is null", call);
  if (!Runtime::get().alive(handle, kCommunicator)) fail(HCCL_E_PARA, "{}: comm is not alive", call);
  return *static_cast<Communicator*>(handle);
}

HcclResult guarded_hccl(const std::function<void()>& body) {
  const int code = guarded(body);
  return code < 100 ? static_cast<HcclResult>(code) : HCCL_E_RUNTIME;
}

const char* name_of(HcclDataType dtype) {
  switch (dtype) {
    case HCCL_DATA_TYPE_INT8:
      return "INT8";
    case HCCL_DATA_TYPE_INT32:
      return "INT32";
    case HCCL_DATA_TYPE_INT64:
      return "INT64";
    case HCCL_DATA_TYPE_FP16:
      return "FP16";
    case HCCL_DATA_TYPE_FP32:
      return "FP32";
    case HCCL_DATA_TYPE_UINT8:
      return "UINT8";
    case HCCL_DATA_TYPE_BFP16:
      return "BFP16";
    default:
      return "another type";
  }
}

aclDataType acl_type(HcclDataType dtype, const char* call) {
  switch (dtype) {
    case HCCL_DATA_TYPE_INT8:
      return ACL_INT8;
    case HCCL_DATA_TYPE_INT32:
      return ACL_INT32;
    case HCCL_DATA_TYPE_INT64:
      return ACL_INT64;
    case HCCL_DATA_TYPE_FP16:
      return ACL_FLOAT16;
    case HCCL_DATA_TYPE_FP32:
      return ACL_FLOAT;
    case HCCL_DATA_TYPE_UINT8:
      return ACL_UINT8;
    case HCCL_DATA_TYPE_BFP16:
      return ACL_BF16;
    default:
      fail(HCCL_E_NOT_SUPPORT,
           "{}: data type {} is not in the simulator (27 is aclDataType's BF16; HCCL's is 11)", call,
           static_cast<int>(dtype));
  }
}

}  // namespace cann_sim
