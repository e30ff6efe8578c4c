#pragma once

#include "core/call.h"

namespace cann_sim {

/// The arguments that both forms of aclnnScatterPaKvCache have.
struct PageScatter {
  const aclTensor* key;
  aclTensor* key_cache;
  const aclTensor *slots, *value;
  aclTensor* value_cache;
  const aclTensor *compress_lens, *compress_seq_offset, *seq_lens;
  const char* cache_mode;
};

/// key [T, N, D] and value [T, N, Dv] into pages [blocks, block size, N, D] by slots [T].
void describe_page_scatter(Call& call, const PageScatter& s);

}  // namespace cann_sim
