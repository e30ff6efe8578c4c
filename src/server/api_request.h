#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation_defaults.h"

namespace longspan::server {

inline constexpr int32_t kMaxChoices = 128;  // of one request: prompts times n

/// What /v1/completions or /v1/chat/completions is asked for.
struct GenerationRequest {
  bool chat = false;
  std::string tenant;  // who asks; not in the body
  std::string model;
  std::vector<Prompt> prompts;  // chat: one
  ChatOptions chat_options;
  int32_t n = 1;  // choices for each prompt
  /// All but seed and max_tokens, which the two below say.
  SamplingParams sampling;
  std::optional<int32_t> max_tokens;
  std::optional<uint64_t> seed;
  std::string cache_salt;  // Request::cache_salt
  bool echo = false;       // the answer starts with the prompt
  bool stream = false;
  bool include_usage = false;    // a stream ends with a chunk of usage
  bool return_progress = false;  // a stream tells how far the prompts are

  int32_t choices() const { return n * static_cast<int32_t>(prompts.size()); }
};

/// Each reads a request's body; throws ApiError (400) for what is unknown, mistyped or out of range, and for
/// known fields that this server can't honour.
GenerationRequest parse_completion(std::string_view body, const GenerationDefaults& defaults);
GenerationRequest parse_chat(std::string_view body, const GenerationDefaults& defaults);

struct TokenizeRequest {
  std::optional<std::string> model;
  Prompt prompt;
};
TokenizeRequest parse_tokenize(std::string_view body);

struct DetokenizeRequest {
  std::optional<std::string> model;
  std::vector<int32_t> tokens;
};
DetokenizeRequest parse_detokenize(std::string_view body);

}  // namespace longspan::server
