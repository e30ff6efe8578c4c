#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "comm/job.h"
#include "device/ops.h"
#include "plan/transfer_cost.h"

namespace longspan {

/// What figures of a transfer depend on, as far as it can be told; the same text on every rank. Collective
/// over the job, if there is one. `device`: Ops::name().
std::string transfer_key(Job* job, const EngineOptions& options, const KvShape& kv, int threads_per_rank,
                         std::string_view device, int32_t probe_pages);

/// The figures that rank 0 has kept under `key` from an earlier start (engine/probe_cache.h), else those that
/// `measure` gives, which every process calls then. The same on all of them. `overlaps` is as `measure` left
/// it, or false. Collective over the job, if there is one.
TransferFigures kept_or_measured(Job* job, const std::string& cache_folder, const std::string& key,
                                 const std::function<TransferFigures()>& measure);

}  // namespace longspan
