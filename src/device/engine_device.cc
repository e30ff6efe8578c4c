#include "device/engine_device.h"

namespace longspan {

std::unique_ptr<Device> make_device(const EngineOptions& options, DType stored) {
  const bool bf16 =
      options.dtype == ComputeType::kBF16 || (options.dtype != ComputeType::kF32 && stored == DType::kBF16);
  return make_device(DeviceOptions{.backend = options.backend,
                                   .compute = bf16 ? DType::kBF16 : DType::kF32,
                                   .int8 = options.dtype == ComputeType::kInt8,
                                   .isa = options.isa,
                                   .ascend = options.ascend});
}

}  // namespace longspan
