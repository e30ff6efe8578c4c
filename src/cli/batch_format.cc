#include "cli/batch_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/json_reason.h"
#include "base/nearest.h"
#include "cli/json_out.h"

namespace longspan::cli {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;  // a legal line needs 3
const std::vector<std::string> kFields = {
    "id",   "prompt", "prompt_token_ids", "messages", "max_tokens",     "temperature", "top_p", "top_k",
    "seed", "stop",   "ignore_eos",       "logprobs", "prompt_logprobs"};

[[noreturn]] void bad_line(int64_t number, const std::string& what) {
  throw Error(ErrorCode::kInvalidRequest, fmt::format("line {}: {}", number, what));
}

std::string shown(const json& value) {
  if (value.is_string()) return "a string";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

/// A field of a line, for messages and checks.
struct Field {
  int64_t line;
  std::string name;  // "messages[2].role"
  const json& value;

  [[noreturn]] void fail(const std::string& rule) const {
    bad_line(line, fmt::format("field \"{}\": must be {}, not {}", name, rule, shown(value)));
  }
  Field item(size_t i) const { return {line, fmt::format("{}[{}]", name, i), value[i]}; }

  std::string string() const {
    if (!value.is_string()) fail("a string");
    return value.get<std::string>();
  }
  std::string filled_string() const {
    std::string text = string();
    if (text.empty()) bad_line(line, fmt::format("field \"{}\": must not be empty", name));
    return text;
  }
  bool boolean() const {
    if (!value.is_boolean()) fail("true or false");
    return value.get<bool>();
  }
  uint64_t integer(uint64_t max) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > max) {
      fail(fmt::format("a whole number from 0 to {}", max));
    }
    return value.get<uint64_t>();
  }
  int32_t int32() const {
    return static_cast<int32_t>(integer(static_cast<uint64_t>(std::numeric_limits<int32_t>::max())));
  }
  const json& filled_list(const char* of) const {
    if (!value.is_array()) fail(fmt::format("a list of {}", of));
    if (value.empty()) bad_line(line, fmt::format("field \"{}\": must not be empty", name));
    return value;
  }
};

float temperature_of(const Field& field) {
  const double value = field.value.is_number() ? field.value.get<double>() : -1;
  if (!(value >= 0 && value <= std::numeric_limits<float>::max())) field.fail("a number >= 0");
  return static_cast<float>(value);
}

float top_p_of(const Field& field) {
  const double value = field.value.is_number() ? field.value.get<double>() : -1;
  if (!(static_cast<float>(value) > 0 && value <= 1)) field.fail("a number > 0 and <= 1");
  return static_cast<float>(value);
}

std::vector<int32_t> token_ids_of(const Field& field) {
  std::vector<int32_t> ids;
  ids.reserve(field.filled_list("token ids").size());
  for (size_t i = 0; i < field.value.size(); ++i) {
    const json& id = field.value[i];
    const bool fits = id.is_number_unsigned() &&
                      id.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
    ids.push_back(fits ? id.get<int32_t>() : field.item(i).int32());
  }
  return ids;
}

std::vector<Message> messages_of(const Field& field) {
  std::vector<Message> messages;
  for (size_t i = 0; i < field.filled_list("{role, content} objects").size(); ++i) {
    const Field item = field.item(i);
    if (!item.value.is_object()) item.fail("an object {role, content}");
    for (const auto& [key, value] : item.value.items()) {
      if (key != "role" && key != "content") {
        bad_line(field.line, fmt::format("field \"{}\": unknown key \"{}\"; legal: role, content", item.name,
                                         key.substr(0, 64)));
      }
    }
    const auto part = [&](const char* key) {
      if (!item.value.contains(key)) {
        bad_line(field.line, fmt::format("field \"{}\": \"{}\" is missing", item.name, key));
      }
      return Field{field.line, fmt::format("{}.{}", item.name, key), item.value[key]};
    };
    Message message{part("role").string(), part("content").string()};
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      bad_line(field.line, fmt::format("field \"{}.role\": must be system, user or assistant, not \"{}\"",
                                       item.name, message.role.substr(0, 64)));
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

std::vector<std::string> stop_of(const Field& field) {
  if (!field.value.is_array()) field.fail("a list of strings");
  std::vector<std::string> stop;
  for (size_t i = 0; i < field.value.size(); ++i) stop.push_back(field.item(i).filled_string());
  return stop;
}

void set_field(const Field& field, Request& request) {
  SamplingParams& sampling = request.sampling;
  const std::string& name = field.name;
  if (name == "id") {
    field.string();
  } else if (name == "prompt") {
    request.prompt = field.filled_string();
  } else if (name == "prompt_token_ids") {
    request.prompt = token_ids_of(field);
  } else if (name == "messages") {
    request.prompt = messages_of(field);
  } else if (name == "max_tokens") {
    sampling.max_tokens = field.int32();
  } else if (name == "temperature") {
    sampling.temperature = temperature_of(field);
  } else if (name == "top_p") {
    sampling.top_p = top_p_of(field);
  } else if (name == "top_k") {
    sampling.top_k = field.int32();
  } else if (name == "seed") {
    sampling.seed = field.integer(std::numeric_limits<uint64_t>::max());
  } else if (name == "stop") {
    sampling.stop = stop_of(field);
  } else if (name == "ignore_eos") {
    sampling.ignore_eos = field.boolean();
  } else if (name == "logprobs") {
    const int32_t alternatives = field.int32();
    sampling.logprobs = alternatives > 0 ? alternatives : -1;
  } else if (name == "prompt_logprobs") {
    sampling.prompt_logprobs = field.boolean();
  } else {
    const std::string near = nearest(name, kFields);
    bad_line(field.line, fmt::format("unknown field \"{}\"; {}", name.substr(0, 64),
                                     near.empty() ? fmt::format("legal: {}", fmt::join(kFields, ", "))
                                                  : fmt::format("did you mean \"{}\"?", near)));
  }
}

json parse_object(std::string_view text, int64_t number) {
  std::vector<std::set<std::string>> keys;  // of the objects around the current place
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) bad_line(number, fmt::format("nested deeper than {} levels", kMaxDepth));
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      bad_line(number, fmt::format("field \"{}\" is given twice", parsed.get<std::string>().substr(0, 64)));
    }
    return true;
  };
  try {
    json line = json::parse(text, watch);
    if (!line.is_object()) bad_line(number, fmt::format("must be a JSON object, not {}", shown(line)));
    return line;
  } catch (const json::parse_error& e) {
    bad_line(number, "not JSON: " + json_reason(e.what(), e.byte, text.size()));
  } catch (const json::exception&) {  // a number that no double can hold
    bad_line(number, "not JSON: a number is out of range");
  }
}

std::string logprobs_json(const std::vector<TokenLogprob>& logprobs) {
  std::vector<std::string> items;
  for (const TokenLogprob& token : logprobs) {
    std::vector<std::string> top;
    for (const auto& [id, logprob] : token.top)
      top.push_back(fmt::format("[{},{}]", id, json_number(logprob)));
    items.push_back(JsonObject()
                        .set("token_id", token.token_id)
                        .set_json("logprob", json_number(token.logprob))
                        .set_json("top", json_array(top))
                        .str());
  }
  return json_array(items);
}

}  // namespace

BatchLine parse_batch_line(std::string_view text, int64_t number) {
  BatchLine line;
  line.id = std::to_string(number);
  try {
    const json object = parse_object(text, number);
    if (object.contains("id") && object["id"].is_string()) line.id = object["id"].get<std::string>();
    int prompts = 0;
    for (const auto& [name, value] : object.items()) {
      set_field({number, name, value}, line.request);
      prompts += name == "prompt" || name == "prompt_token_ids" || name == "messages";
    }
    if (prompts != 1) {
      bad_line(number,
               fmt::format("exactly one of prompt, prompt_token_ids, messages is required, not {}", prompts));
    }
  } catch (const Error& e) {
    line.error = e;
  }
  return line;
}

void set_result(JsonObject& object, const SamplingParams& sampling, const Result& result) {
  object.set("text", result.text);
  object.set_json("token_ids", fmt::format("[{}]", fmt::join(result.token_ids, ",")));
  object.set("finish_reason", to_string(result.finish_reason));
  if (sampling.logprobs >= 0) object.set_json("logprobs", logprobs_json(result.logprobs));
  if (sampling.prompt_logprobs) {
    std::vector<std::string> items;
    for (const auto& x : result.prompt_logprobs) items.push_back(x ? json_number(*x) : "null");
    object.set_json("prompt_logprobs", json_array(items));
  }
  object.set("usage", JsonObject()
                          .set("prompt_tokens", result.prompt_tokens)
                          .set("cached_tokens", result.cached_tokens)
                          .set("completion_tokens", result.token_ids.size()));
  const auto milliseconds = [](double ms) { return std::round(ms * 1000) / 1000; };
  object.set("timing", JsonObject()
                           .set("ttft_ms", milliseconds(result.ttft_ms))
                           .set("prefill_ms", milliseconds(result.prefill_ms))
                           .set("decode_ms", milliseconds(result.decode_ms)));
  if (result.error_code) {
    object.set("error",
               JsonObject().set("code", to_string(*result.error_code)).set("message", result.error_message));
  }
}

std::string format_batch_result(const std::string& id, const SamplingParams& sampling, const Result& result) {
  JsonObject object;
  object.set("id", id);
  set_result(object, sampling, result);
  return object.str();
}

std::string format_batch_error(const std::string& id, ErrorCode code, const std::string& message) {
  Result result;
  result.finish_reason = FinishReason::kError;
  result.error_code = code;
  result.error_message = message;
  return format_batch_result(id, {}, result);
}

}  // namespace longspan::cli
