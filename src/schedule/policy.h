#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace longspan {

/// Who comes first, as pure functions. Time is counted in work, not on a clock: `arrived` is how many prompt
/// tokens had been computed, for anybody, when a request came.
///
/// A prompt is due at arrived + the tokens it still needs, and what is due earlier goes first: short ones
/// overtake long ones, but nobody is overtaken by what came after as many tokens as it has itself had been
/// computed, so nothing starves.
inline int64_t due_at(int64_t arrived, int64_t tokens_left) {
  return arrived + tokens_left;
}

/// What a running sequence could compute now.
struct Demand {
  int32_t pending = 0;    // known tokens without KV, >= 1
  bool decoding = false;  // its prompt is done: pending is 1
  int32_t tenant = 0;     // whose it is: an index
  int64_t due = 0;        // of a prompt: due_at
};

/// New tokens for each running sequence (0: none in this step), at most `budget` in all, never more than
/// pending. Decoding rows come first, one token each; where the budget can't hold all of them, `round` (a
/// step counter) turns the order. One token at least is kept for prompts, so that neither starves the other.
/// What is left goes to prompts: to the tenant that has been served least so far, up to the next one's level,
/// and among a tenant's prompts to the one that is due first. `served` [tenants]: FairShare's prompt tokens.
std::vector<int32_t> allot_tokens(std::span<const Demand> demands, std::span<const int64_t> served,
                                  int64_t budget, uint64_t round);

/// The largest number in [least, most] that fits; `least` if none does. What fits, fits smaller, too.
int64_t largest_that_fits(int64_t least, int64_t most, const std::function<bool(int64_t)>& fits);

/// A sequence that waits for a place in the batch.
struct Candidate {
  int32_t tenant = 0;
  int64_t due = 0;
};

/// What a tenant has.
struct TenantLoad {
  int64_t served = 0;   // prompt tokens, as FairShare counts them
  int32_t running = 0;  // sequences in the batch
};

/// Which of `waiting` (not empty) gets the next place: of the tenant with the fewest running sequences, then
/// the least served one, what is due first, then what stands first.
size_t next_admission(std::span<const Candidate> waiting, std::span<const TenantLoad> tenants);

}  // namespace longspan
