#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// tokenizer.json of a Hugging Face folder: byte-level BPE as Qwen2/3 and Llama-3 use it (normalizer NFC or
/// none; pre-tokeniser Split(regex) + ByteLevel; added and special tokens; TemplateProcessing or ByteLevel
/// post-processor). Immutable; safe to use from several threads.
class Tokenizer {
 public:
  /// Throws Error(kUnreadable) for a missing or malformed file (file, field, value), Error(kNotSupported) for
  /// a tokenizer of another kind, named.
  static Tokenizer load(const std::filesystem::path& folder);
  static Tokenizer parse(std::string_view tokenizer_json);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Token ids of `text`; special tokens written in the text are recognised. Invalid UTF-8 is replaced by
  /// U+FFFD as the `tokenizers` package's callers do. Linear in the text. `add_special`: what the
  /// post-processor adds (a BOS for Llama).
  std::vector<int32_t> encode(std::string_view text, bool add_special) const;

  /// Bytes of the tokens' texts, special tokens left out if `skip_special`; invalid UTF-8 becomes U+FFFD.
  /// Unknown ids give nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  /// The raw bytes of one token (may be half a character); empty for an id that is not in the vocabulary.
  std::string_view token_bytes(int32_t id) const;
  bool is_special(int32_t id) const;
  int32_t token_to_id(std::string_view token) const;  // -1: not a token
  int32_t vocab_size() const;                         // added tokens included: largest id + 1

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan
