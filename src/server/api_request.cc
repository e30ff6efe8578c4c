#include "server/api_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <limits>
#include <map>

#include "server/api_error.h"
#include "server/json_fields.h"

namespace longspan::server {
namespace {

using nlohmann::json;

constexpr double kMaxFloat = std::numeric_limits<float>::max();
constexpr double kLeastFloat = std::numeric_limits<float>::min();
constexpr int64_t kMaxAlternatives = 20;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxSalt = 256;
constexpr size_t kLongestSchema = 64 * 1024;  // bytes

/// What each field of an endpoint does. A field that is null counts as left out, as OpenAI's clients mean it.
using Readers = std::map<std::string, std::function<void(const Field&)>>;

void read_fields(const json& body, const Readers& readers) {
  std::vector<std::string> names;
  for (const auto& [name, reader] : readers) names.push_back(name);
  for (const auto& [name, value] : body.items()) {
    const auto reader = readers.find(name);
    if (reader == readers.end()) unknown_field(name, names);
    if (!value.is_null()) reader->second(Field(name, value));
  }
}

void require(const json& body, const char* name) {
  if (!body.contains(name) || body[name].is_null())
    throw bad_field(name, fmt::format("\"{}\" is missing", name));
}

// Known to OpenAI's API, without effect here.
void ignore(const Field&) {}

std::function<void(const Field&)> refuse_unless(json harmless, std::string why) {
  return [harmless = std::move(harmless), why = std::move(why)](const Field& field) {
    if (field.value() != harmless) field.fail(why);
  };
}

std::vector<std::string> stop_of(const Field& field) {
  std::vector<std::string> stop;
  if (field.value().is_string()) {
    stop.push_back(field.string());
  } else {
    if (!field.value().is_array()) field.must_be("a string or a list of strings");
    if (field.value().size() > kMaxStops) field.fail(fmt::format("may have at most {} strings", kMaxStops));
    for (size_t i = 0; i < field.value().size(); ++i) stop.push_back(field.item(i).string());
  }
  if (std::find(stop.begin(), stop.end(), "") != stop.end()) field.fail("must have no empty string");
  return stop;
}

std::string content_of(const Field& field) {
  if (field.value().is_string()) return field.string();
  if (!field.value().is_array()) field.must_be("a string or a list of text parts");
  std::string text;
  for (size_t i = 0; i < field.value().size(); ++i) {
    const Field part = field.item(i);
    if (!part.value().is_object()) part.must_be("an object");
    if (const Field type = part.member("type"); type.string() != "text")
      type.fail(fmt::format("is \"{}\"; this server reads \"text\" alone", type.string().substr(0, 32)));
    part.object({"type", "text"});
    if (i > 0) text += '\n';
    text += part.member("text").string();
  }
  return text;
}

std::vector<Message> messages_of(const Field& field) {
  std::vector<Message> messages;
  const size_t count = field.list("{role, content} objects");
  for (size_t i = 0; i < count; ++i) {
    const Field item = field.item(i);
    item.object({"role", "content"});
    const Field role = item.member("role");
    std::string name = role.string();
    if (name == "developer") name = "system";  // OpenAI's newer word
    if (name != "system" && name != "user" && name != "assistant")
      role.fail(
          fmt::format("is \"{}\"; it must be system, developer, user or assistant", name.substr(0, 32)));
    messages.push_back({std::move(name), content_of(item.member("content"))});
  }
  return messages;
}

// A text, a list of texts, a list of token ids, or a list of these.
std::vector<Prompt> prompts_of(const Field& field) {
  if (field.value().is_string()) return {field.string()};
  const size_t count = field.list("texts or token ids");
  if (field.value()[0].is_number()) return {field.token_ids()};
  if (count > static_cast<size_t>(kMaxChoices))
    field.fail(fmt::format("may have at most {} prompts", kMaxChoices));
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < count; ++i) {
    const Field item = field.item(i);
    if (item.value().is_string()) {
      prompts.emplace_back(item.string());
    } else if (item.value().is_array()) {
      prompts.emplace_back(item.token_ids());
    } else {
      item.must_be("a text or a list of token ids");
    }
  }
  return prompts;
}

// {"50256": -100}
std::vector<std::pair<int32_t, float>> logit_bias_of(const Field& field) {
  if (!field.value().is_object()) field.must_be("an object {token id: bias}");
  std::vector<std::pair<int32_t, float>> biases;
  for (const auto& [key, value] : field.value().items()) {
    const Field item(fmt::format("{}.{}", field.name(), key.substr(0, 16)), value);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0) item.fail("is no token id");
    biases.emplace_back(id, static_cast<float>(item.number(-100, 100)));
  }
  return biases;
}

// response_format.json_schema.schema alone, its members in the order of the text.
nlohmann::ordered_json ordered_schema(std::string_view text) {
  using Event = nlohmann::ordered_json::parse_event_t;
  static constexpr std::array<const char*, 4> kPath = {"", "response_format", "json_schema", "schema"};
  const auto on_path = [](int depth, Event event, const nlohmann::ordered_json& parsed) {
    return event != Event::key || depth >= std::ssize(kPath) || parsed == kPath[static_cast<size_t>(depth)];
  };
  const auto body = nlohmann::ordered_json::parse(text, on_path);
  return body["response_format"]["json_schema"]["schema"];
}

// What an answer must fit; "": nothing.
std::string schema_of(const Field& format, std::string_view text) {
  if (!format.value().is_object()) format.must_be("an object");
  const Field type = format.member("type");
  const std::string kind = type.string();
  if (kind == "text" || kind == "json_object") {
    format.object({"type"});
    return kind == "text" ? "" : R"({"type": "object"})";
  }
  if (kind != "json_schema")
    type.fail(fmt::format("is \"{}\"; it must be text, json_object or json_schema", kind.substr(0, 32)));
  const Field given = format.object({"type", "json_schema"}).member("json_schema");
  const Field schema = given.object({"name", "schema", "strict", "description"}).member("schema");
  if (const size_t size = schema.value().dump().size(); size > kLongestSchema)
    schema.fail(fmt::format("has {} bytes; it may have at most {}", size, kLongestSchema));
  return ordered_schema(text).dump();
}

Readers common_readers(GenerationRequest& request) {
  SamplingParams& sampling = request.sampling;
  return {
      {"model", [&](const Field& f) { request.model = f.string(); }},
      {"max_tokens",
       [&](const Field& f) { request.max_tokens = static_cast<int32_t>(f.integer(0, kMax32)); }},
      {"temperature",
       [&](const Field& f) { sampling.temperature = static_cast<float>(f.number(0, kMaxFloat)); }},
      {"top_p", [&](const Field& f) { sampling.top_p = static_cast<float>(f.number(kLeastFloat, 1)); }},
      {"top_k",  // -1: off, as other servers have it
       [&](const Field& f) {
         sampling.top_k = static_cast<int32_t>(std::max<int64_t>(f.integer(-1, kMax32), 0));
       }},
      {"seed", [&](const Field& f) { request.seed = f.unsigned_integer(); }},
      {"stop", [&](const Field& f) { sampling.stop = stop_of(f); }},
      {"ignore_eos", [&](const Field& f) { sampling.ignore_eos = f.boolean(); }},
      {"n", [&](const Field& f) { request.n = static_cast<int32_t>(f.integer(1, kMaxChoices)); }},
      {"stream", [&](const Field& f) { request.stream = f.boolean(); }},
      {"stream_options",
       [&](const Field& f) {
         f.object({"include_usage"});
         if (f.value().contains("include_usage")) request.include_usage = f.member("include_usage").boolean();
       }},
      {"presence_penalty",
       [&](const Field& f) { sampling.presence_penalty = static_cast<float>(f.number(-2, 2)); }},
      {"frequency_penalty",
       [&](const Field& f) { sampling.frequency_penalty = static_cast<float>(f.number(-2, 2)); }},
      {"repetition_penalty",
       [&](const Field& f) {
         sampling.repetition_penalty = static_cast<float>(f.number(kLeastFloat, kMaxFloat));
       }},
      {"min_p", [&](const Field& f) { sampling.min_p = static_cast<float>(f.number(0, 1)); }},
      {"logit_bias", [&](const Field& f) { sampling.logit_bias = logit_bias_of(f); }},
      {"return_progress", [&](const Field& f) { request.return_progress = f.boolean(); }},
      {"cache_salt",
       [&](const Field& f) {
         request.cache_salt = f.string();
         if (request.cache_salt.empty() || request.cache_salt.size() > kMaxSalt)
           f.fail(fmt::format("must have 1 to {} bytes", kMaxSalt));
       }},
      {"user", ignore},
  };
}

void finish(const json& body, GenerationRequest& request) {
  require(body, "model");
  if (body.contains("stream_options") && !body["stream_options"].is_null() && !request.stream)
    throw bad_field("stream_options", "\"stream_options\" needs \"stream\": true");
  if (request.return_progress && !request.stream)
    throw bad_field("return_progress", "\"return_progress\" needs \"stream\": true");
  if (request.choices() > kMaxChoices) {
    throw bad_field("n", fmt::format("{} prompts with n {} make {} choices; at most {}",
                                     request.prompts.size(), request.n, request.choices(), kMaxChoices));
  }
}

GenerationRequest with_defaults(const GenerationDefaults& defaults, bool chat) {
  GenerationRequest request;
  request.chat = chat;
  request.sampling = defaults.sampling;
  request.sampling.logprobs = -1;
  return request;
}

}  // namespace

GenerationRequest parse_completion(std::string_view text, const GenerationDefaults& defaults) {
  const json body = parse_body(text);
  GenerationRequest request = with_defaults(defaults, false);
  Readers readers = common_readers(request);
  readers["prompt"] = [&](const Field& f) { request.prompts = prompts_of(f); };
  readers["echo"] = [&](const Field& f) { request.echo = f.boolean(); };
  readers["logprobs"] = [&](const Field& f) {
    request.sampling.logprobs = static_cast<int32_t>(f.integer(0, kMaxAlternatives));
  };
  readers["best_of"] = [&](const Field& f) { f.integer(1, kMaxChoices); };
  readers["suffix"] = refuse_unless("", "is not supported; leave it out");
  read_fields(body, readers);
  require(body, "prompt");
  if (body.contains("best_of") && !body["best_of"].is_null() && body["best_of"] != request.n)
    throw bad_field("best_of",
                    fmt::format("\"best_of\" must equal n ({}); more are not supported", request.n));
  request.sampling.prompt_logprobs = request.echo && request.sampling.logprobs >= 0;
  if (request.sampling.prompt_logprobs && request.stream)
    throw bad_field("echo", "\"echo\" with \"logprobs\" can't be streamed; leave out \"stream\"");
  finish(body, request);
  return request;
}

GenerationRequest parse_chat(std::string_view text, const GenerationDefaults& defaults) {
  const json body = parse_body(text);
  GenerationRequest request = with_defaults(defaults, true);
  std::optional<int32_t> top_logprobs;
  bool logprobs = false;
  Readers readers = common_readers(request);
  readers["messages"] = [&](const Field& f) { request.prompts = {messages_of(f)}; };
  readers["max_completion_tokens"] = readers["max_tokens"];
  readers["logprobs"] = [&](const Field& f) { logprobs = f.boolean(); };
  readers["top_logprobs"] = [&](const Field& f) {
    top_logprobs = static_cast<int32_t>(f.integer(0, kMaxAlternatives));
  };
  readers["chat_template_kwargs"] = [&](const Field& f) {
    f.object({"enable_thinking"});
    if (f.value().contains("enable_thinking"))
      request.chat_options.enable_thinking = f.member("enable_thinking").boolean();
  };
  readers["response_format"] = [&](const Field& f) { request.sampling.json_schema = schema_of(f, text); };
  readers["tools"] = refuse_unless(json::array(), "is not supported; leave it out");
  readers["tool_choice"] = refuse_unless("none", "is not supported but for \"none\"");
  readers["store"] = refuse_unless(false, "must be false: this server keeps nothing");
  read_fields(body, readers);
  require(body, "messages");
  if (body.contains("max_tokens") && body.contains("max_completion_tokens"))
    throw bad_field("max_tokens", "\"max_tokens\" and \"max_completion_tokens\" mean the same; give one");
  if (top_logprobs && !logprobs) throw bad_field("top_logprobs", "\"top_logprobs\" needs \"logprobs\": true");
  if (logprobs) request.sampling.logprobs = top_logprobs.value_or(0);
  if (!request.sampling.json_schema.empty() && request.sampling.ignore_eos)
    throw bad_field("ignore_eos", "\"ignore_eos\" can't be combined with a JSON response_format");
  finish(body, request);
  return request;
}

TokenizeRequest parse_tokenize(std::string_view text) {
  const json body = parse_body(text);
  TokenizeRequest request;
  int prompts = 0;
  read_fields(body, {{"model", [&](const Field& f) { request.model = f.string(); }},
                     {"prompt",
                      [&](const Field& f) {
                        request.prompt = f.string();
                        ++prompts;
                      }},
                     {"messages", [&](const Field& f) {
                        request.prompt = messages_of(f);
                        ++prompts;
                      }}});
  if (prompts != 1) throw bad_field("prompt", "exactly one of \"prompt\" and \"messages\" is required");
  return request;
}

DetokenizeRequest parse_detokenize(std::string_view text) {
  const json body = parse_body(text);
  DetokenizeRequest request;
  read_fields(body, {{"model", [&](const Field& f) { request.model = f.string(); }},
                     {"tokens", [&](const Field& f) {
                        if (!f.value().is_array()) f.must_be("a list of token ids");
                        if (!f.value().empty()) request.tokens = f.token_ids();
                      }}});
  require(body, "tokens");
  return request;
}

}  // namespace longspan::server
