#pragma once

#include <longspan/engine.h>

#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "engine/host_share.h"
#include "engine/together.h"
#include "model/weights.h"
#include "plan/layout_rules.h"

namespace longspan {

/// Cores of each rank, and of the wide rank (all) if there is one. `threads` 0: all cores; more than there
/// are: some twice.
std::vector<std::vector<int>> share_cores(std::vector<int> cores, int32_t threads, int32_t ranks, bool wide);

/// Throws Error(kNotSupported) where the ranks of the layout can't exchange what they must on this device:
/// collectives over threads and MPI read and write host memory, those over HCCL the memory of cards.
void check_exchange(const EngineOptions& options, const Layout& layout, const ModelConfig& config,
                    bool share_kv, Device& device);

/// What other processes read counts as read, too. Collective over the job; throws AgreedError(kUnreadable).
void add_tensors_of_others(Job& job, const Checkpoint& checkpoint, PackedSlices& packed);

/// This process' part of its host. Collective over the job, if there is one; rank 0 alone warns of what is
/// odd, on any of them.
HostShare share_of_host(Job* job, int32_t threads);

}  // namespace longspan
