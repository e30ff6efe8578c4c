#include "text/tokenizer.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/utf8.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/text_file.h"
#include "text/tokenizer_json.h"

namespace longspan {
namespace {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

// Words repeat, so their tokens are kept while one text is encoded. Longer pieces are rarely met twice.
constexpr size_t kLongestCachedWord = 64;  // bytes
constexpr size_t kMostCachedWords = 1 << 16;

std::array<int32_t, 256> byte_tokens(const StringMap<int32_t>& vocab, std::string_view name) {
  std::array<int32_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto it = vocab.find(to_byte_level({&c, 1}));
    if (it == vocab.end()) {
      throw Error(
          ErrorCode::kNotSupported,
          fmt::format(
              "{}: model.vocab has no token for the byte 0x{:02x}; a byte-level vocabulary has all 256", name,
              byte));
    }
    ids[byte] = it->second;
  }
  return ids;
}

std::vector<AddedToken> added_for(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedToken> tokens;
  for (AddedToken token : spec.added) {
    if (token.normalized != normalized) continue;
    if (normalized && spec.nfc) token.content = to_nfc(token.content);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const TokenizerSpec& spec, std::string_view name)
      : vocab(vocab_of(spec)),
        bpe(byte_tokens(vocab, name), spec.merges),
        ignore_merges(spec.ignore_merges),
        nfc(spec.nfc),
        raw_added(added_for(spec, false)),
        normalized_added(added_for(spec, true)),
        pretokenizer(spec.split_patterns),
        prefix(spec.prefix),
        suffix(spec.suffix) {
    for (const auto& [token, id] : spec.vocab) set_token(id, token);
    for (const AddedToken& token : spec.added) {
      added_ids.emplace(token.content, token.id);
      set_token(token.id, token.content);
      tokens[token.id].special = token.special;
    }
  }

  static StringMap<int32_t> vocab_of(const TokenizerSpec& spec) {
    return {spec.vocab.begin(), spec.vocab.end()};
  }

  void set_token(int32_t id, std::string_view content) {
    if (static_cast<size_t>(id) >= tokens.size()) tokens.resize(static_cast<size_t>(id) + 1);
    tokens[id].bytes = from_byte_level(content);
  }

  bool contains(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < tokens.size(); }

  struct Token {
    std::string bytes;
    bool special = false;
  };
  StringMap<int32_t> vocab;      // the model's tokens as written in the file
  StringMap<int32_t> added_ids;  // by content
  Bpe bpe;
  bool ignore_merges;
  bool nfc;
  AddedTokenFinder raw_added, normalized_added;
  Pretokenizer pretokenizer;
  std::vector<int32_t> prefix, suffix;
  std::vector<Token> tokens;  // by id; holes are empty
};

namespace {

// What one call of encode() works with.
class PieceEncoder {
 public:
  PieceEncoder(const Bpe& bpe, const StringMap<int32_t>* whole_tokens, std::vector<int32_t>& out)
      : bpe_(bpe), whole_tokens_(whole_tokens), out_(out) {}

  void encode(std::string_view piece) {
    if (piece.size() > kLongestCachedWord) return encode_new(piece);
    if (const auto it = cache_.find(piece); it != cache_.end()) {
      const auto [begin, count] = it->second;
      out_.insert(out_.end(), cached_ids_.begin() + begin, cached_ids_.begin() + begin + count);
      return;
    }
    const size_t before = out_.size();
    encode_new(piece);
    if (cache_.size() >= kMostCachedWords) return;
    cache_.emplace(
        piece, Span{static_cast<uint32_t>(cached_ids_.size()), static_cast<uint32_t>(out_.size() - before)});
    cached_ids_.insert(cached_ids_.end(), out_.begin() + static_cast<std::ptrdiff_t>(before), out_.end());
  }

 private:
  struct Span {
    uint32_t begin, count;  // in cached_ids_
  };

  void encode_new(std::string_view piece) {
    if (whole_tokens_ != nullptr) {
      if (const auto it = whole_tokens_->find(to_byte_level(piece)); it != whole_tokens_->end()) {
        out_.push_back(it->second);
        return;
      }
    }
    bpe_.encode(piece, scratch_, out_);
  }

  const Bpe& bpe_;
  const StringMap<int32_t>* whole_tokens_;  // null: pieces are always merged
  std::vector<int32_t>& out_;
  BpeScratch scratch_;
  StringMap<Span> cache_;
  std::vector<int32_t> cached_ids_;
};

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer.json";
  const std::string name = path.string();
  return Tokenizer(std::make_unique<Impl>(parse_tokenizer_json(read_text_file(path), name), name));
}

Tokenizer Tokenizer::parse(std::string_view tokenizer_json) {
  constexpr std::string_view kName = "tokenizer.json";
  return Tokenizer(std::make_unique<Impl>(parse_tokenizer_json(tokenizer_json, kName), kName));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::vector<int32_t> ids;
  if (add_special) ids = impl_->prefix;
  PieceEncoder encoder(impl_->bpe, impl_->ignore_merges ? &impl_->vocab : nullptr, ids);
  const auto encode_piece = [&](std::string_view piece) { encoder.encode(piece); };
  const auto encode_normalized = [&](int32_t added, std::string_view part) {
    if (added >= 0) {
      ids.push_back(added);
    } else {
      impl_->pretokenizer.split(part, encode_piece);
    }
  };
  impl_->raw_added.split(replace_invalid_utf8(text), [&](int32_t added, std::string_view part) {
    if (added >= 0) {
      ids.push_back(added);
    } else if (impl_->nfc) {
      impl_->normalized_added.split(to_nfc(part), encode_normalized);
    } else {
      impl_->normalized_added.split(part, encode_normalized);
    }
  });
  if (add_special) ids.insert(ids.end(), impl_->suffix.begin(), impl_->suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!(skip_special && is_special(id))) bytes += token_bytes(id);
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return impl_->contains(id) ? std::string_view(impl_->tokens[id].bytes) : std::string_view();
}

bool Tokenizer::is_special(int32_t id) const {
  return impl_->contains(id) && impl_->tokens[id].special;
}

int32_t Tokenizer::token_to_id(std::string_view token) const {
  for (const StringMap<int32_t>* map : {&impl_->added_ids, &impl_->vocab}) {
    if (const auto it = map->find(token); it != map->end()) return it->second;
  }
  return -1;
}

int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(impl_->tokens.size());
}

}  // namespace longspan
