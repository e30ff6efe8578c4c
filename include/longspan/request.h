#pragma once

#include <longspan/error.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace longspan {

using RequestId = uint64_t;

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// How messages become a prompt.
struct ChatOptions {
  bool enable_thinking = true;  ///< false: refused where the chat template can't switch it off
};

struct SamplingParams {
  int32_t max_tokens = 16;             ///< >= 0 new tokens; 0 computes the prompt only
  float temperature = 0;               ///< >= 0; 0: greedy, ties to the lowest id
  float top_p = 1;                     ///< (0, 1]
  int32_t top_k = 0;                   ///< >= 0; 0: off
  uint64_t seed = 0;                   ///< same seed, prompt and parameters: same tokens
  std::vector<std::string> stop = {};  ///< generation ends before the first of these; none empty
  bool ignore_eos = false;             ///< go on past end-of-sequence tokens
  float repetition_penalty =
      1;  ///< > 0; logits of tokens in prompt or answer are divided (< 0: multiplied) by it
  float presence_penalty = 0;   ///< taken off the logit of every token in the answer so far
  float frequency_penalty = 0;  ///< likewise, once for each time it is there
  float min_p = 0;              ///< [0, 1]; tokens less likely than this share of the likeliest are left out
  std::vector<std::pair<int32_t, float>> logit_bias =
      {};  ///< (id, what is added to its logit), after penalties
  /// The answer is the JSON text of a value that fits this JSON Schema, or the start of one where max_tokens
  /// come first; "": any text. Not with ignore_eos. What of JSON Schema is read: docs/serving.md.
  std::string json_schema = {};
  int32_t logprobs = -1;         ///< alternatives to report per generated token; -1: no log-probabilities
  bool prompt_logprobs = false;  ///< log-probability of every prompt token given those before it
};

/// Text, token ids or chat messages.
using Prompt = std::variant<std::string, std::vector<int32_t>, std::vector<Message>>;

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;                           ///< natural logarithm
  std::vector<std::pair<int32_t, float>> top;  ///< the most likely (id, logprob), descending
};

enum class FinishReason { kStop, kLength, kError };

/// "stop", "length", "error".
inline const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kError:
      break;
  }
  return "error";
}

/// A finished request.
struct Result {
  RequestId id = 0;
  std::string text;                ///< without the end-of-sequence token, cut before a stop string
  std::vector<int32_t> token_ids;  ///< with the end-of-sequence token that stopped generation
  FinishReason finish_reason = FinishReason::kLength;
  std::vector<TokenLogprob> logprobs;                 ///< [token_ids.size()] if asked for
  std::vector<std::optional<float>> prompt_logprobs;  ///< [prompt_tokens] if asked for; the first is empty
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;            ///< of the prompt, found in the prefix tree; < prompt_tokens
  double ttft_ms = 0;                   ///< submit to first token
  double prefill_ms = 0;                ///< first step with this request to first token
  double decode_ms = 0;                 ///< first token to last
  std::optional<ErrorCode> error_code;  ///< set if finish_reason is kError
  std::string error_message;
};

/// Prefill progress of one request, in prompt tokens.
struct Progress {
  int32_t total = 0;
  int32_t cached = 0;
  int32_t processed = 0;  ///< cached ones included
  double elapsed_ms = 0;  ///< since the request's first step, without pauses in which KV ran out
  /// Tokens that each context-parallel rank computed: [cp]; those of steps in which nothing was cut are in
  /// none.
  std::vector<int32_t> rank_tokens = {};
};

/// Callbacks run on the thread that calls Engine::step, between steps; they may call submit and cancel.
struct Request {
  Prompt prompt;
  SamplingParams sampling;
  std::string tenant = {};      ///< whose it is; tenants with prompts to compute share the engine evenly
  std::string cache_salt = {};  ///< cached KV is shared among requests with the same one alone
  std::function<void(const Progress&)> on_progress = {};
  std::function<void(const TokenLogprob&)> on_logprob = {};  ///< before its token, if asked for
  std::function<void(int32_t token_id, const std::string& text_delta)> on_token =
      {};                                             ///< delta: whole characters
  std::function<void(const Result&)> on_finish = {};  ///< exactly once, also for failures and cancellation
};

}  // namespace longspan
