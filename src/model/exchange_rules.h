#pragma once

#include <longspan/engine.h>

#include "checkpoint/model_config.h"
#include "device/device.h"
#include "plan/layout_rules.h"

namespace longspan {

/// Throws Error(kNotSupported) where the ranks of the layout can't exchange what they must on this device:
/// collectives over threads and MPI read and write host memory, those over HCCL the memory of cards.
void check_exchange(const EngineOptions& options, const Layout& layout, const ModelConfig& config,
                    bool share_kv, Device& device);

}  // namespace longspan
