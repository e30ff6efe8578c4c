#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "device/ops.h"
#include "engine/host_share.h"
#include "engine/together.h"
#include "model/weights.h"

namespace longspan {

/// Cores of each rank, and of the wide rank (all) if there is one. `threads` 0: all cores; more than there
/// are: some twice.
std::vector<std::vector<int>> share_cores(std::vector<int> cores, int32_t threads, int32_t ranks, bool wide);

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
