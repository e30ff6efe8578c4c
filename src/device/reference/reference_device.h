#pragma once

#include <memory>

#include "device/device.h"

namespace longspan {

/// The plain backend: ordinary memory, one thread.
std::unique_ptr<Device> make_reference_device(DType compute, bool int8);

}  // namespace longspan
