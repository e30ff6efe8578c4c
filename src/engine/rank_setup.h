#pragma once

#include <longspan/engine.h>

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "device/ops.h"
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

/// How many processes of a lower rank run on this host. Collective over the job.
int32_t place_on_host(Job& job);

/// This process' place in a group of cards, `ranks` of the job in order, each of which has `device`'s like;
/// null where it is alone there. What `ctx` names must outlive it. Collective over the job, whatever group
/// each process gives.
std::unique_ptr<Communicator> join_cards_of_job(Job& job, const std::vector<int32_t>& ranks, Device& device,
                                                const OpContext& ctx);

/// Throws Error(kRankLost) with the job's reason and `failure` if the job is lost, or soon: a rank that waits
/// for its card hears last of another's loss, and knows it by its place in a group only.
void tell_who_is_lost(Job& job, const std::string& failure);

/// What other processes read counts as read, too. Collective over the job; throws AgreedError(kUnreadable).
void add_tensors_of_others(Job& job, const Checkpoint& checkpoint, PackedSlices& packed);

/// This process' part of its host. Collective over the job, if there is one; rank 0 alone warns of what is
/// odd, on any of them.
HostShare share_of_host(Job* job, int32_t threads);

}  // namespace longspan
