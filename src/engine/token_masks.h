#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "grammar/token_mask.h"
#include "text/tokenizer.h"

namespace longspan {

/// Makes the masks of requests whose answers must fit a schema, and keeps the grammars of the last few
/// schemas. From any thread.
class TokenMasks {
 public:
  static constexpr size_t kMostKept = 16;

  /// `tokenizer` outlives it. `end_tokens`: those that end an answer, of the model's vocabulary.
  TokenMasks(const Tokenizer& tokenizer, std::vector<int32_t> end_tokens)
      : tokenizer_(tokenizer), end_tokens_(std::move(end_tokens)) {}

  /// The grammar of a schema, from which make() with the same one starts. Throws SchemaError, and
  /// Error(kNotSupported) where no token ends an answer.
  std::shared_ptr<const Grammar> prepare(const std::string& json_schema);
  /// Null for no schema (""). Throws as prepare(), and Error(kInvalidRequest): see Matcher.
  std::unique_ptr<TokenMask> make(const std::string& json_schema);

 private:
  std::shared_ptr<const Grammar> grammar_of(const std::string& json_schema);

  const Tokenizer& tokenizer_;
  const std::vector<int32_t> end_tokens_;
  std::once_flag made_;
  std::shared_ptr<const TokenTable> table_;  // made for the first schema

  std::mutex mutex_;                                                             // guards what follows
  std::deque<std::pair<std::string, std::shared_ptr<const Grammar>>> grammars_;  // by schema, oldest first
};

}  // namespace longspan
