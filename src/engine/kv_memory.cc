#include "engine/kv_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace longspan {

int32_t count_pages(const EngineOptions& options, const ModelConfig& config, const KvMemory& memory) {
  const int64_t budget =
      static_cast<int64_t>(options.mem_fraction * static_cast<double>(memory.memory_bytes)) -
      memory.weight_bytes - memory.workspace_bytes;
  const int64_t fitting = budget / memory.page_bytes;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t context = options.context_length ? options.context_length : config.context_length;
  const int64_t tokens = options.max_total_tokens
                             ? ceil_div(options.max_total_tokens, options.page_size)
                             : options.max_running_requests * ceil_div(context, options.page_size);
  const int64_t wanted = ceil_div(tokens, memory.owners);
  if (fitting < 2 || (options.max_total_tokens && wanted + 1 > fitting)) {
    throw Error(
        ErrorCode::kCapacity,
        fmt::format(
            "the KV pool needs {} pages of {} tokens ({} bytes each), but --mem-fraction-static {} of "
            "{} bytes leaves room for {} beside {} bytes of weights{}; raise the fraction, or lower "
            "the page size or the number of KV tokens",
            options.max_total_tokens ? wanted + 1 : 2, options.page_size, memory.page_bytes,
            options.mem_fraction, memory.memory_bytes, std::max<int64_t>(fitting, 0), memory.weight_bytes,
            memory.workspace_bytes
                ? fmt::format(" and {} bytes for what travels (--chunked-prefill-size lowers it)",
                              memory.workspace_bytes)
                : ""));
  }
  const int64_t slots_limit = std::numeric_limits<int32_t>::max() / options.page_size;
  return static_cast<int32_t>(std::min({wanted + 1, fitting, slots_limit}));  // page 0 is never handed out
}

}  // namespace longspan
