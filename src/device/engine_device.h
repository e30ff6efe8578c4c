#pragma once

#include <longspan/engine.h>

#include <memory>

#include "device/device.h"

namespace longspan {

/// The device that `options` ask for, where the checkpoint stores its weights in `stored`. Throws as the
/// other make_device does.
std::unique_ptr<Device> make_device(const EngineOptions& options, DType stored);

}  // namespace longspan
