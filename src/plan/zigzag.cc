#include "plan/zigzag.h"

namespace longspan {

void cut_evenly(int32_t tokens, std::span<int32_t> blocks) {
  const int32_t n = static_cast<int32_t>(blocks.size());
  const int32_t base = tokens / n;
  const int32_t extra = tokens % n;
  for (int32_t b = 0; b < n; ++b) blocks[b] = base + (b < extra ? 1 : 0);
}

}  // namespace longspan
