#pragma once

#include <longspan/engine.h>

#include <chrono>
#include <span>

#include "checkpoint/model_config.h"

namespace longspan {

/// EngineOptions::comm_timeout_s in whole milliseconds. Throws Error(kUsage) outside 0.001 to 1,000,000 s.
std::chrono::milliseconds comm_timeout(double seconds);

/// Throws Error(kUsage) for an option out of range: the option, its value, what is allowed.
void check_options(const EngineOptions& options, const ModelConfig& config);

/// Throws Error(kInvalidRequest) for a sampling parameter out of range.
void check_sampling(const SamplingParams& sampling, int64_t vocab_size);

/// Throws Error(kInvalidRequest) for an empty prompt or an id outside the vocabulary, Error(kContextLength)
/// for a prompt longer than `context_length` tokens.
void check_prompt(std::span<const int32_t> prompt, int64_t vocab_size, int64_t context_length);

/// What to say to a request that needs more pages than the whole pool has.
Error pool_too_small(int64_t prompt_len, int64_t new_tokens, int64_t pages_needed, int64_t pages,
                     int64_t page_size, bool pool_is_limited);

}  // namespace longspan
