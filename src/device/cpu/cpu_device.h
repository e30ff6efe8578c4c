#pragma once

#include <memory>
#include <string_view>

#include "device/device.h"

namespace longspan {

/// The host's cores. `isa` as in DeviceOptions; throws Error(kUsage) for one that the machine lacks.
std::unique_ptr<Device> make_cpu_device(DType compute, bool int8, std::string_view isa);

}  // namespace longspan
