#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace longspan {

/// Text of a growing token sequence, in pieces that are always whole characters. The pieces' concatenation is
/// Tokenizer::decode(ids, skip_special = true). Keeps at most three bytes back.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  std::string push(int32_t token_id);  // text that became complete
  std::string finish();                // what was kept back, as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // bytes of an unfinished character
};

}  // namespace longspan
