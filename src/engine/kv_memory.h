#pragma once

#include <longspan/engine.h>

#include "checkpoint/model_config.h"

namespace longspan {

/// What the KV pages of a process share its memory with. Bytes are of all ranks of the process.
struct KvMemory {
  int64_t memory_bytes = 0;  // of the device, for this process; options.mem_fraction of it may be used
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;  // of what travels between ranks, beside the pages
  int64_t page_bytes = 0;       // one page in every pool
  int32_t owners = 1;           // ranks that each keep some of the pages
};

/// Pages of each rank's pool, page 0 included. Throws Error(kCapacity) where the options ask for more than
/// fits, or nothing does.
int32_t count_pages(const EngineOptions& options, const ModelConfig& config, const KvMemory& memory);

}  // namespace longspan
