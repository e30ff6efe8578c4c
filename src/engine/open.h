#pragma once

#include <longspan/engine.h>

#include <functional>
#include <memory>

#include "device/device.h"

namespace longspan {

using Clock = std::function<double()>;  // milliseconds from any fixed point

/// Engine::open with the device and the clock as arguments.
std::unique_ptr<Engine> open_engine(const EngineOptions& options, std::unique_ptr<Device> device, Clock now);

/// Engine::follow with the device as an argument.
void follow_engine(const EngineOptions& options, std::unique_ptr<Device> device);

}  // namespace longspan
