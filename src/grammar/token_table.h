#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/matcher.h"

namespace longspan {

/// The tokens of a vocabulary in the order of their bytes, so that those with the same start are followed
/// through a grammar together. Immutable: for several threads.
class TokenTable {
 public:
  /// `bytes_of`: a token's bytes; empty: it is never allowed (special ones).
  TokenTable(int32_t vocab_size, const std::function<std::string(int32_t id)>& bytes_of);

  int32_t vocab_size() const { return vocab_size_; }
  /// Whether the grammar goes on with each token from `place`: [vocab_size].
  std::vector<bool> allowed(Matcher& matcher, Matcher::Place place) const;

 private:
  struct Token {
    int32_t id;
    uint32_t shared;  // bytes that it has in common with the token before
    std::string bytes;
  };
  int32_t vocab_size_;
  std::vector<Token> tokens_;
};

}  // namespace longspan
