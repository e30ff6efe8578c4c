#include "text/tokenizer_json.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/json_reason.h"
#include "base/utf8.h"

namespace longspan {
namespace {

using nlohmann::json;

// The GPT-2 pattern, which ByteLevel uses when its use_regex is set.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A string for a one-line message: escaped, cut short.
std::string in_quotes(const std::string& s) {
  constexpr size_t kMost = 60;
  return json(s.substr(0, kMost)).dump(-1, ' ', false, json::error_handler_t::replace);
}

class Parser {
 public:
  explicit Parser(std::string_view name) : name_(name) {}

  TokenizerSpec run(std::string_view text) {
    json root;
    try {
      root = json::parse(text);
    } catch (const json::parse_error& e) {
      malformed("", "is not valid JSON: " + json_reason(e.what(), e.byte, text.size()));
    } catch (const json::exception&) {
      malformed("", "is not valid JSON: a number is out of range");
    }
    if (!root.is_object()) malformed("", "must be an object");
    model(member(root, "model", "model", json::value_t::object));
    added_tokens(root);
    normalizer(find(root, "normalizer"), "normalizer", false);
    pre_tokenizer(root);
    post_processor(find(root, "post_processor"), "post_processor", false);
    decoder(root);
    return std::move(spec_);
  }

 private:
  [[noreturn]] void malformed(std::string_view field, std::string_view what) const {
    throw Error(ErrorCode::kUnreadable,
                fmt::format("{}: {}{}{}", name_, field, field.empty() ? "" : " ", what));
  }
  [[noreturn]] void refuse(std::string_view field, std::string_view what) const {
    throw Error(ErrorCode::kNotSupported,
                fmt::format("{}: {} {} is not supported; Longspan reads byte-level BPE "
                            "tokenizers as Qwen2, Qwen3 and Llama-3 have them",
                            name_, field, what));
  }

  // The member, or null where it is absent or JSON null.
  static const json* find(const json& object, const char* key) {
    const auto it = object.find(key);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  }
  const json& member(const json& object, const char* key, std::string_view path, json::value_t type) const {
    const json* value = find(object, key);
    if (value == nullptr) malformed(path, "is missing");
    if (value->type() != type)
      malformed(path, fmt::format("must be {}, is {}", name_of(type), value->type_name()));
    return *value;
  }
  static const char* name_of(json::value_t type) {
    switch (type) {
      case json::value_t::object:
        return "an object";
      case json::value_t::array:
        return "an array";
      case json::value_t::string:
        return "a string";
      default:
        return "a boolean";
    }
  }
  bool flag(const json& object, const char* key, std::string_view path, bool otherwise) const {
    const json* value = find(object, key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) malformed(fmt::format("{}.{}", path, key), "must be true or false");
    return value->get<bool>();
  }
  const std::string& text(const json& object, const char* key, std::string_view path) const {
    return member(object, key, fmt::format("{}.{}", path, key), json::value_t::string)
        .get_ref<const std::string&>();
  }
  int32_t token_id(const json& value, const std::string& path) const {
    const bool in_range = value.is_number_integer() && value >= 0 && value < kMaxTokenIds;
    if (!in_range) {
      malformed(path, fmt::format("must be a token id from 0 to {}, is {}", kMaxTokenIds - 1, brief(value)));
    }
    return value.get<int32_t>();
  }
  static std::string brief(const json& value) {
    return value.is_number() ? value.dump() : std::string(value.type_name());
  }

  void model(const json& m) {
    if (const json* type = find(m, "type")) {
      if (!type->is_string()) malformed("model.type", "must be a string");
      if (*type != "BPE") refuse("model.type", in_quotes(type->get_ref<const std::string&>()));
    }
    if (const json* dropout = find(m, "dropout");
        dropout != nullptr && !(dropout->is_number() && *dropout == 0)) {
      refuse("model.dropout", brief(*dropout));
    }
    if (find(m, "unk_token") != nullptr) refuse("model.unk_token", "(anything but null)");
    if (flag(m, "byte_fallback", "model", false)) refuse("model.byte_fallback", "true");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* value = find(m, key);
      if (value != nullptr && *value != "")
        refuse(fmt::format("model.{}", key), "(anything but null or \"\")");
    }
    spec_.ignore_merges = flag(m, "ignore_merges", "model", false);
    vocab(member(m, "vocab", "model.vocab", json::value_t::object));
    merges(member(m, "merges", "model.merges", json::value_t::array));
  }

  void vocab(const json& v) {
    spec_.vocab.reserve(v.size());
    for (const auto& [token, value] : v.items()) {
      const int32_t id = token_id(value, fmt::format("model.vocab[{}]", in_quotes(token)));
      if (!used_ids_.insert(id).second) {
        malformed(fmt::format("model.vocab[{}]", in_quotes(token)),
                  fmt::format("= {}: another token has this id", id));
      }
      spec_.vocab.emplace_back(token, id);
    }
    for (const auto& [token, id] : spec_.vocab) ids_.emplace(token, id);
  }

  int32_t merge_token(const std::string& token, size_t rank) const {
    const auto it = ids_.find(token);
    if (it == ids_.end())
      malformed(fmt::format("model.merges[{}]", rank), in_quotes(token) + " is not in the vocabulary");
    return it->second;
  }

  void merges(const json& list) {
    spec_.merges.reserve(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      std::string left, right;
      const json& merge = list[i];
      if (merge.is_string()) {
        const auto& line = merge.get_ref<const std::string&>();
        if (line.starts_with("#version")) continue;
        const size_t space = line.find(' ');
        if (space == line.npos || line.find(' ', space + 1) != line.npos) {
          malformed(fmt::format("model.merges[{}]", i), "must be two tokens with one space between");
        }
        left = line.substr(0, space);
        right = line.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get_ref<const std::string&>();
        right = merge[1].get_ref<const std::string&>();
      } else {
        malformed(fmt::format("model.merges[{}]", i), "must be \"a b\" or [\"a\", \"b\"]");
      }
      spec_.merges.push_back({merge_token(left, i), merge_token(right, i), merge_token(left + right, i)});
    }
  }

  void added_tokens(const json& root) {
    if (find(root, "added_tokens") == nullptr) return;
    const json& list = member(root, "added_tokens", "added_tokens", json::value_t::array);
    std::unordered_set<std::string> seen;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string path = fmt::format("added_tokens[{}]", i);
      const json& entry = list[i];
      if (!entry.is_object()) malformed(path, "must be an object");
      AddedToken token;
      token.content = text(entry, "content", path);
      if (token.content.empty()) malformed(path + ".content", "is empty");
      if (!seen.insert(token.content).second)
        malformed(path + ".content", in_quotes(token.content) + " appears twice");
      const json* id = find(entry, "id");
      if (id == nullptr) malformed(path + ".id", "is missing");
      token.id = token_id(*id, path + ".id");
      const auto known = ids_.find(token.content);
      if (known != ids_.end() && known->second != token.id) {
        malformed(path + ".id", fmt::format("= {}, but model.vocab has {} = {}", token.id,
                                            in_quotes(token.content), known->second));
      }
      if (known == ids_.end() && !used_ids_.insert(token.id).second) {
        malformed(path + ".id", fmt::format("= {}: another token has this id", token.id));
      }
      if (flag(entry, "single_word", path, false)) refuse(path + ".single_word", "true");
      token.lstrip = flag(entry, "lstrip", path, false);
      token.rstrip = flag(entry, "rstrip", path, false);
      token.special = flag(entry, "special", path, false);
      token.normalized = flag(entry, "normalized", path, !token.special);
      spec_.added.push_back(std::move(token));
    }
  }

  // The "type" of a component, which must be an object.
  const std::string& type_of(const json& component, const std::string& path) const {
    if (!component.is_object()) malformed(path, "must be an object");
    return text(component, "type", path);
  }

  void normalizer(const json* n, const std::string& path, bool nested) {
    if (n == nullptr) return;
    const std::string& type = type_of(*n, path);
    if (type == "NFC") {
      spec_.nfc = true;
    } else if (type == "Sequence" && !nested) {
      const json& list = member(*n, "normalizers", path + ".normalizers", json::value_t::array);
      for (size_t i = 0; i < list.size(); ++i)
        normalizer(&list[i], fmt::format("{}.normalizers[{}]", path, i), true);
    } else {
      refuse(path, "of type " + in_quotes(type));
    }
  }

  void pre_tokenizer(const json& root) {
    const json* p = find(root, "pre_tokenizer");
    if (p == nullptr) refuse("pre_tokenizer", "null (no ByteLevel)");
    bool byte_level = false;
    if (type_of(*p, "pre_tokenizer") == "Sequence") {
      const json& list = member(*p, "pretokenizers", "pre_tokenizer.pretokenizers", json::value_t::array);
      for (size_t i = 0; i < list.size(); ++i) {
        const std::string path = fmt::format("pre_tokenizer.pretokenizers[{}]", i);
        if (byte_level) refuse(path, "after ByteLevel");
        byte_level = pre_tokenizer_step(list[i], path);
      }
    } else {
      byte_level = pre_tokenizer_step(*p, "pre_tokenizer");
    }
    if (!byte_level) refuse("pre_tokenizer", "without ByteLevel");
  }

  // True for ByteLevel.
  bool pre_tokenizer_step(const json& step, const std::string& path) {
    const std::string& type = type_of(step, path);
    if (type == "ByteLevel") {
      if (flag(step, "add_prefix_space", path, true)) refuse(path + ".add_prefix_space", "true");
      if (flag(step, "use_regex", path, true)) spec_.split_patterns.emplace_back(kGpt2Pattern);
      return true;
    }
    if (type != "Split") refuse(path, "of type " + in_quotes(type));
    const json& pattern = member(step, "pattern", path + ".pattern", json::value_t::object);
    if (find(pattern, "Regex") == nullptr) refuse(path + ".pattern", "without \"Regex\"");
    if (text(step, "behavior", path) != "Isolated") {
      refuse(path + ".behavior", in_quotes(text(step, "behavior", path)));
    }
    if (flag(step, "invert", path, false)) refuse(path + ".invert", "true");
    spec_.split_patterns.push_back(text(pattern, "Regex", path + ".pattern"));
    return false;
  }

  void post_processor(const json* p, const std::string& path, bool nested) {
    if (p == nullptr) return;
    const std::string& type = type_of(*p, path);
    if (type == "ByteLevel") return;  // changes offsets only
    if (type == "TemplateProcessing") {
      if (!spec_.prefix.empty() || !spec_.suffix.empty()) refuse(path, "(a second TemplateProcessing)");
      template_processing(*p, path);
    } else if (type == "Sequence" && !nested) {
      const json& list = member(*p, "processors", path + ".processors", json::value_t::array);
      for (size_t i = 0; i < list.size(); ++i)
        post_processor(&list[i], fmt::format("{}.processors[{}]", path, i), true);
    } else {
      refuse(path, "of type " + in_quotes(type));
    }
  }

  void template_processing(const json& p, const std::string& path) {
    const json& single = member(p, "single", path + ".single", json::value_t::array);
    bool text_seen = false;
    for (size_t i = 0; i < single.size(); ++i) {
      const std::string at = fmt::format("{}.single[{}]", path, i);
      if (!single[i].is_object()) malformed(at, "must be an object");
      if (const json* sequence = find(single[i], "Sequence")) {
        if (!sequence->is_object()) malformed(at + ".Sequence", "must be an object");
        if (text_seen || text(*sequence, "id", at + ".Sequence") != "A")
          refuse(at, "(anything but sequence A, once)");
        text_seen = true;
        continue;
      }
      const json& token = member(single[i], "SpecialToken", at + ".SpecialToken", json::value_t::object);
      auto& side = text_seen ? spec_.suffix : spec_.prefix;
      template_token(p, text(token, "id", at + ".SpecialToken"), path, side);
    }
    if (!text_seen) malformed(path + ".single", "has no sequence A");
  }

  void template_token(const json& p, const std::string& name, const std::string& path,
                      std::vector<int32_t>& out) const {
    const json& known = member(p, "special_tokens", path + ".special_tokens", json::value_t::object);
    const std::string at = fmt::format("{}.special_tokens[{}]", path, in_quotes(name));
    const json& entry = member(known, name.c_str(), at, json::value_t::object);
    const json& ids = member(entry, "ids", at + ".ids", json::value_t::array);
    for (const json& value : ids) {
      const int32_t id = token_id(value, at + ".ids");
      if (!used_ids_.contains(id)) malformed(at + ".ids", fmt::format("= {}: no token has this id", id));
      out.push_back(id);
    }
  }

  void decoder(const json& root) const {
    const json* d = find(root, "decoder");
    if (d == nullptr) refuse("decoder", "null (no ByteLevel)");
    if (type_of(*d, "decoder") != "ByteLevel")
      refuse("decoder", "of type " + in_quotes(type_of(*d, "decoder")));
  }

  std::string name_;
  TokenizerSpec spec_;
  std::unordered_map<std::string_view, int32_t> ids_;  // the model's tokens; views of spec_.vocab
  std::unordered_set<int32_t> used_ids_;
};

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view json, std::string_view name) {
  return Parser(name).run(json);
}

}  // namespace longspan
