#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace longspan::server {

using OrderedJson = nlohmann::ordered_json;

/// What every object of one answer starts with.
struct AnswerHead {
  bool chat = false;
  std::string id;       // "cmpl-..." or "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;
};

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};
OrderedJson usage_json(const Usage& usage);

/// Log-probabilities in the shape of /v1/completions: {tokens, token_logprobs, top_logprobs, text_offset}.
/// A token that is not whole characters is spelled "bytes:\xe2\x82".
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(const Engine& engine) : engine_(engine) {}

  /// A prompt's token; the first has no log-probability. Alternatives are not computed for prompts: null.
  void add_prompt(int32_t token, std::optional<float> logprob);
  void add(const TokenLogprob& token);
  /// What was added since the last call; offsets go on.
  OrderedJson take();

 private:
  void add_token(int32_t token);

  const Engine& engine_;
  OrderedJson tokens_ = OrderedJson::array(), logprobs_ = OrderedJson::array(), top_ = OrderedJson::array(),
              offsets_ = OrderedJson::array();
  int64_t characters_ = 0;
};

/// One entry of logprobs.content in the shape of /v1/chat/completions.
OrderedJson chat_logprob(const Engine& engine, const TokenLogprob& token);

/// {"id", "object", "created", "model", "choices", "usage"}; `chunk`: of a stream. A null usage is left out.
OrderedJson answer_json(const AnswerHead& head, bool chunk, OrderedJson choices, OrderedJson usage);

std::string dump(const OrderedJson& json);
/// One server-sent event.
std::string event(const std::string& data);

}  // namespace longspan::server
