#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"

namespace longspan {

/// Token ids are below this: it bounds what a lying file can make us allocate.
inline constexpr int64_t kMaxTokenIds = 1 << 20;

/// What a tokenizer.json says, checked: ids are unique and in range, merges and templates name tokens that
/// exist.
struct TokenizerSpec {
  std::vector<std::pair<std::string, int32_t>> vocab;  // the model's tokens as written: byte-level characters
  std::vector<BpeMerge> merges;                        // by rank
  bool ignore_merges = false;                          // a piece that is a token becomes it without merging
  std::vector<AddedToken> added;
  bool nfc = false;
  std::vector<std::string> split_patterns;  // pre-tokeniser regexes in turn, Oniguruma's dialect
  std::vector<int32_t> prefix, suffix;      // what the post-processor puts around a text
};

/// `name` is the file's name in messages. Throws Error(kUnreadable) for what is malformed (naming the field)
/// and Error(kNotSupported) for what is known but not byte-level BPE as Qwen and Llama-3 have it.
TokenizerSpec parse_tokenizer_json(std::string_view json, std::string_view name);

}  // namespace longspan
