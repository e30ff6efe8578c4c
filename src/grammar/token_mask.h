#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "grammar/token_table.h"

namespace longspan {

/// Which tokens may come next in one text that a grammar describes. Of one request; not for several threads.
class TokenMask {
 public:
  /// `end_tokens`: may come where the text may end, and nowhere else.
  TokenMask(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTable> table,
            std::vector<int32_t> end_tokens);

  /// Sets the logits [V >= table's vocab_size] of tokens that may not come next to -infinity. False if no
  /// token may. Throws Error(kInvalidRequest): see Matcher.
  bool apply(std::span<float> logits);
  /// The token that has come, one that was allowed. Throws likewise.
  void accept(int32_t token, std::string_view bytes);
  /// The text may end here; it must if nothing else is allowed.
  bool can_end() const { return matcher_.can_end(place_); }

 private:
  Matcher matcher_;
  std::shared_ptr<const TokenTable> table_;
  std::vector<int32_t> end_tokens_;
  std::map<Matcher::Place, std::vector<bool>>
      masks_;  // of places where tokens ended: many texts come back to some
  Matcher::Place place_;
};

}  // namespace longspan
