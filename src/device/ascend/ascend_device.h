#pragma once

#include "device/device.h"

namespace longspan {

/// One NPU through CANN, whose libraries are looked for at run time. Throws Error(kNotSupported) that names
/// what is missing: a library, a symbol, the driver, bf16.
std::unique_ptr<Device> make_ascend_device(DType compute, bool int8, const AscendOptions& options);

}  // namespace longspan
