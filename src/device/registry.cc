#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include "device/ascend/ascend_device.h"
#include "device/cpu/cpu_device.h"
#include "device/device.h"
#include "device/reference/reference_device.h"

namespace longspan {

namespace {

[[noreturn]] void refuse_groups() {
  throw Error(ErrorCode::kNotSupported,
              "--comm hccl: is for --backend ascend, where ranks have a card each; use threads or mpi");
}

}  // namespace

std::unique_ptr<Device> Device::another(int32_t) {
  refuse_groups();
}

std::vector<std::byte> Device::new_group() {
  refuse_groups();
}

std::unique_ptr<Communicator> Device::join_group(std::span<const std::byte>, int32_t, int32_t,
                                                 const OpContext&) {
  refuse_groups();
}

std::vector<std::string> backends() {
  return {"cpu", "ascend", "reference"};
}

std::unique_ptr<Device> make_device(const DeviceOptions& options) {
  if (options.compute != DType::kBF16 && options.compute != DType::kF32)
    throw Error(ErrorCode::kUsage,
                fmt::format("compute dtype '{}' is not one of: bf16, f32", to_string(options.compute)));
  if (options.backend == "cpu") return make_cpu_device(options.compute, options.int8, options.isa);
  if (options.backend == "reference") return make_reference_device(options.compute, options.int8);
  if (options.backend == "ascend" || options.backend == "npu")
    return make_ascend_device(options.compute, options.int8, options.ascend);
  const std::string choices = fmt::format("{}", fmt::join(backends(), ", "));
  if (options.backend == "cuda")
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend 'cuda' is not in this build yet; choices: {}", choices));
  throw Error(ErrorCode::kUsage, fmt::format("unknown backend '{}'; choices: {}", options.backend, choices));
}

}  // namespace longspan
