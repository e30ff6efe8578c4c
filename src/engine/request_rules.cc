#include "engine/request_rules.h"

#include <fmt/format.h>

#include <cmath>

namespace longspan {
namespace {

void require(bool ok, ErrorCode code, const std::string& message) {
  if (!ok) throw Error(code, message);
}

}  // namespace

std::chrono::milliseconds comm_timeout(double seconds) {
  constexpr double kShortest = 0.001, kLongest = 1e6;
  require(seconds >= kShortest && seconds <= kLongest, ErrorCode::kUsage,
          fmt::format("comm_timeout_s must be from {} to {}; got {}", kShortest, kLongest, seconds));
  return std::chrono::milliseconds(std::llround(seconds * 1e3));
}

void check_options(const EngineOptions& options, const ModelConfig& config) {
  const auto at_least = [](const char* name, auto value, auto least) {
    require(value >= least, ErrorCode::kUsage,
            fmt::format("{} must be at least {}; got {}", name, least, value));
  };
  at_least("page_size", options.page_size, 1);
  at_least("max_running_requests", options.max_running_requests, 1);
  at_least("threads", options.threads, 0);
  at_least("context_length", options.context_length, int64_t{0});
  at_least("max_total_tokens", options.max_total_tokens, int64_t{0});
  at_least("min_tokens_to_cut", options.min_tokens_to_cut, 0);
  at_least("min_tokens_per_rank", options.min_tokens_per_rank, 0);
  require(options.chunked_prefill_size == -1 || options.chunked_prefill_size >= 1, ErrorCode::kUsage,
          fmt::format("chunked_prefill_size must be at least 1, or -1 for no limit; got {}",
                      options.chunked_prefill_size));
  require(options.max_step_ms >= 0 && std::isfinite(options.max_step_ms), ErrorCode::kUsage,
          fmt::format("max_step_ms must be at least 0 (0: no bound); got {}", options.max_step_ms));
  require(options.mem_fraction > 0 && options.mem_fraction <= 1, ErrorCode::kUsage,
          fmt::format("mem_fraction must be above 0 and at most 1; got {}", options.mem_fraction));
  comm_timeout(options.comm_timeout_s);
  require(options.context_length <= config.context_length, ErrorCode::kUsage,
          fmt::format("context_length {} is more than the model's {}; the largest is {}",
                      options.context_length, config.context_length, config.context_length));
}

void check_sampling(const SamplingParams& sampling, int64_t vocab_size) {
  constexpr ErrorCode kCode = ErrorCode::kInvalidRequest;
  require(sampling.max_tokens >= 0, kCode,
          fmt::format("max_tokens must be at least 0; got {}", sampling.max_tokens));
  require(sampling.temperature >= 0 && std::isfinite(sampling.temperature), kCode,
          fmt::format("temperature must be 0 (greedy) or above; got {}", sampling.temperature));
  require(sampling.top_p > 0 && sampling.top_p <= 1, kCode,
          fmt::format("top_p must be above 0 and at most 1; got {}", sampling.top_p));
  require(sampling.top_k >= 0, kCode,
          fmt::format("top_k must be at least 0 (0: off); got {}", sampling.top_k));
  require(sampling.logprobs >= -1, kCode,
          fmt::format("logprobs must be at least 0 (-1: none); got {}", sampling.logprobs));
  require(sampling.repetition_penalty > 0 && std::isfinite(sampling.repetition_penalty), kCode,
          fmt::format("repetition_penalty must be above 0 (1: none); got {}", sampling.repetition_penalty));
  require(std::isfinite(sampling.presence_penalty), kCode,
          fmt::format("presence_penalty must be a number; got {}", sampling.presence_penalty));
  require(std::isfinite(sampling.frequency_penalty), kCode,
          fmt::format("frequency_penalty must be a number; got {}", sampling.frequency_penalty));
  require(sampling.min_p >= 0 && sampling.min_p <= 1, kCode,
          fmt::format("min_p must be from 0 to 1; got {}", sampling.min_p));
  for (const auto& [id, bias] : sampling.logit_bias) {
    require(id >= 0 && id < vocab_size && std::isfinite(bias), kCode,
            fmt::format("logit_bias has {} for token {}; ids are from 0 to {}, and the bias is a number",
                        bias, id, vocab_size - 1));
  }
  require(sampling.json_schema.empty() || !sampling.ignore_eos, kCode,
          "ignore_eos can't be combined with json_schema: its answers end where the value does");
  for (const std::string& stop : sampling.stop)
    require(!stop.empty(), kCode, "stop strings must not be empty");
}

void check_prompt(std::span<const int32_t> prompt, int64_t vocab_size, int64_t context_length) {
  require(!prompt.empty(), ErrorCode::kInvalidRequest, "the prompt is empty; it needs at least one token");
  for (size_t i = 0; i < prompt.size(); ++i) {
    require(prompt[i] >= 0 && prompt[i] < vocab_size, ErrorCode::kInvalidRequest,
            fmt::format("prompt_token_ids[{}] is {}, outside the vocabulary [0, {}]", i, prompt[i],
                        vocab_size - 1));
  }
  require(std::ssize(prompt) <= context_length, ErrorCode::kContextLength,
          fmt::format("the prompt has {} tokens, but the context holds {}; shorten it by {}", prompt.size(),
                      context_length, std::ssize(prompt) - context_length));
}

Error pool_too_small(int64_t prompt_len, int64_t new_tokens, int64_t pages_needed, int64_t pages,
                     int64_t page_size, bool pool_is_limited) {
  return Error(
      ErrorCode::kCapacity,
      fmt::format("a prompt of {} tokens with up to {} new ones needs {} KV pages of {} tokens, but the pool "
                  "has {}; ask for at most {} tokens in all, or make the pool larger ({})",
                  prompt_len, new_tokens, pages_needed, page_size, pages, pages * page_size + 1,
                  pool_is_limited ? "--max-total-tokens" : "--mem-fraction-static"));
}

}  // namespace longspan
