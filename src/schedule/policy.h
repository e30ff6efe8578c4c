#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longspan {

/// What a running sequence could compute now.
struct Demand {
  int32_t pending = 0;    // known tokens without KV, >= 1
  bool decoding = false;  // its prompt is done: pending is 1
};

/// New tokens for each running sequence (0: none in this step), at most `budget` in all, never more than
/// pending. Decoding rows come first, then prompts in order of arrival; one token is kept for the first
/// prompt, so that neither starves the other. Where the budget can't hold all decoding rows, `round` (a step
/// counter) turns the order. Pure.
std::vector<int32_t> allot_tokens(std::span<const Demand> demands, int64_t budget, uint64_t round);

}  // namespace longspan
