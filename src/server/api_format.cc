#include "server/api_format.h"

#include <fmt/format.h>

#include <utility>

#include "base/utf8.h"

namespace longspan::server {
namespace {

std::string spelled(const std::string& bytes) {
  if (first_invalid_utf8(bytes) == std::string::npos) return bytes;
  std::string text = "bytes:";
  for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

OrderedJson with_bytes(const Engine& engine, int32_t token, float logprob) {
  const std::string bytes = engine.token_bytes(token);
  OrderedJson list = OrderedJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return {{"token", replace_invalid_utf8(bytes)}, {"logprob", logprob}, {"bytes", std::move(list)}};
}

}  // namespace

OrderedJson usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

void CompletionLogprobs::add_token(int32_t token) {
  const std::string bytes = engine_.token_bytes(token);
  tokens_.push_back(spelled(bytes));
  offsets_.push_back(characters_);
  if (engine_.detokenize({token}).empty()) return;  // a special token, which has no place in the text
  for (const char c : bytes) characters_ += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

void CompletionLogprobs::add_prompt(int32_t token, std::optional<float> logprob) {
  add_token(token);
  logprobs_.push_back(logprob ? OrderedJson(*logprob) : OrderedJson());
  top_.push_back(nullptr);
}

void CompletionLogprobs::add(const TokenLogprob& token) {
  add_token(token.token_id);
  logprobs_.push_back(token.logprob);
  OrderedJson top = OrderedJson::object();
  for (const auto& [id, logprob] : token.top) top[spelled(engine_.token_bytes(id))] = logprob;
  top_.push_back(std::move(top));
}

OrderedJson CompletionLogprobs::take() {
  return {{"tokens", std::exchange(tokens_, OrderedJson::array())},
          {"token_logprobs", std::exchange(logprobs_, OrderedJson::array())},
          {"top_logprobs", std::exchange(top_, OrderedJson::array())},
          {"text_offset", std::exchange(offsets_, OrderedJson::array())}};
}

OrderedJson chat_logprob(const Engine& engine, const TokenLogprob& token) {
  OrderedJson entry = with_bytes(engine, token.token_id, token.logprob);
  entry["top_logprobs"] = OrderedJson::array();
  for (const auto& [id, logprob] : token.top)
    entry["top_logprobs"].push_back(with_bytes(engine, id, logprob));
  return entry;
}

OrderedJson answer_json(const AnswerHead& head, bool chunk, OrderedJson choices, OrderedJson usage) {
  const char* object = !head.chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
  OrderedJson answer = {
      {"id", head.id}, {"object", object}, {"created", head.created}, {"model", head.model}};
  answer["choices"] = std::move(choices);
  if (!usage.is_null()) answer["usage"] = std::move(usage);
  return answer;
}

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string event(const std::string& data) {
  return "data: " + data + "\n\n";
}

}  // namespace longspan::server
