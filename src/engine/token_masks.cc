#include "engine/token_masks.h"

#include "grammar/json_schema.h"

namespace longspan {

std::shared_ptr<const Grammar> TokenMasks::prepare(const std::string& json_schema) {
  if (end_tokens_.empty())
    throw Error(
        ErrorCode::kNotSupported,
        "json_schema: this model's configs name no eos_token_id, so its answers can't end where a value "
        "does");
  auto grammar = grammar_of(json_schema);
  std::call_once(made_, [this] {
    table_ = std::make_shared<const TokenTable>(tokenizer_.vocab_size(), [this](int32_t id) {
      return tokenizer_.is_special(id) ? std::string() : std::string(tokenizer_.token_bytes(id));
    });
  });
  return grammar;
}

std::unique_ptr<TokenMask> TokenMasks::make(const std::string& json_schema) {
  if (json_schema.empty()) return nullptr;
  auto grammar = prepare(json_schema);
  return std::make_unique<TokenMask>(std::move(grammar), table_, end_tokens_);
}

// Compiled without the lock: two threads may make the same one.
std::shared_ptr<const Grammar> TokenMasks::grammar_of(const std::string& json_schema) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [schema, grammar] : grammars_) {
      if (schema == json_schema) return grammar;
    }
  }
  auto made = std::make_shared<const Grammar>(compile_json_schema(json_schema));
  const std::lock_guard lock(mutex_);
  if (grammars_.size() == kMostKept) grammars_.pop_front();
  grammars_.emplace_back(json_schema, made);
  return made;
}

}  // namespace longspan
