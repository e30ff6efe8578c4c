#include <fmt/format.h>
#include <longspan/error.h>

#include <nlohmann/json.hpp>

#include "base/json_reason.h"
#include "base/utf8.h"
#include "text/chat_format.h"
#include "text/text_file.h"

namespace longspan {
namespace {

using nlohmann::json;

[[noreturn]] void malformed(const std::string& file, std::string_view what) {
  throw Error(ErrorCode::kUnreadable, fmt::format("{}: {}", file, what));
}

json parse(const std::string& file) {
  const std::string text = read_text_file(file);
  try {
    json root = json::parse(text);
    if (!root.is_object()) malformed(file, "must be an object");
    return root;
  } catch (const json::parse_error& e) {
    malformed(file, "is not valid JSON: " + json_reason(e.what(), e.byte, text.size()));
  } catch (const json::exception&) {
    malformed(file, "is not valid JSON: a number is out of range");
  }
}

// "chat_template": a string, or a list of named ones, of which "default" is meant.
std::string template_of(const json& config, const std::string& file) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (!it->is_array()) malformed(file, "chat_template must be a string or a list of {name, template}");
  for (const json& entry : *it) {
    const auto is_string = [&](const char* key) { return entry.contains(key) && entry[key].is_string(); };
    if (!entry.is_object() || !is_string("name") || !is_string("template")) {
      malformed(file, "chat_template must be a string or a list of {name, template}");
    }
    if (entry["name"] == "default") return entry["template"].get<std::string>();
  }
  malformed(file, "chat_template has no entry named \"default\"; choose a format with --chat-template");
}

// A token is written as its text or as an object with "content".
std::string token_text(const json& config, const char* key, const std::string& file) {
  auto it = config.find(key);
  if (it == config.end() || it->is_null()) return "";
  const json& value = it->is_object() && it->contains("content") ? (*it)["content"] : *it;
  if (!value.is_string())
    malformed(file, fmt::format("{} must be a string or an object with \"content\"", key));
  return value.get<std::string>();
}

}  // namespace

ChatTemplateSource read_chat_template(const std::filesystem::path& folder) {
  ChatTemplateSource source;
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  const std::filesystem::path config = folder / "tokenizer_config.json";
  const bool has_jinja = std::filesystem::exists(jinja);
  if (std::filesystem::exists(config)) {
    const std::string file = config.string();
    const json root = parse(file);
    source.bos_token = token_text(root, "bos_token", file);
    if (!has_jinja) source.jinja = template_of(root, file);
    source.file = file;
  }
  if (has_jinja) {
    source.file = jinja.string();
    source.jinja = read_text_file(jinja);
  }
  return source;
}

}  // namespace longspan
