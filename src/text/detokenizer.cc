#include "text/detokenizer.h"

#include "base/utf8.h"

namespace longspan {

std::string Detokenizer::push(int32_t token_id) {
  std::string text;
  if (tokenizer_.is_special(token_id)) return text;
  pending_.append(tokenizer_.token_bytes(token_id));
  take_complete_chars(pending_, text);
  return text;
}

std::string Detokenizer::finish() {
  std::string text = replace_invalid_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace longspan
