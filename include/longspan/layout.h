#pragma once

#include <cstdint>

namespace longspan {

/// The process grid as a user asks for it. tp = attn_dp x cp x attn_tp = moe_dp x ep x moe_tp, all whole
/// numbers; attn_dp is 1. docs/layouts.md has the rules.
struct LayoutOptions {
  int32_t tp = 0;  ///< ranks in all; 0: cp
  int32_t cp = 1;  ///< ranks in one context-parallel group
  int32_t moe_dp =
      0;  ///< groups that each hold all experts; 0: cp where cp * ep divides tp, else the largest fit
  int32_t ep = 1;  ///< ranks over which the experts of a group are spread
};

}  // namespace longspan
