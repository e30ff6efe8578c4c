#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <span>
#include <vector>

namespace longspan {

/// Logits as penalties and bias leave them, [V]: first repetition over `tokens` (prompt, then answer), then
/// frequency and presence over the answer, tokens[prompt_len ...], then the bias. `logits` themselves where
/// nothing is asked for; else they lie in `scratch`.
std::span<const float> adjusted_logits(std::span<const float> logits, const SamplingParams& params,
                                       std::span<const int32_t> tokens, int64_t prompt_len,
                                       std::vector<float>& scratch);

/// Picks the next token from logits [V] (f32). `position` is the place of the new token in its sequence.
/// Temperature 0: the largest logit, ties to the lowest id. Else Gumbel-max over the tokens that top-k,
/// then top-p and min-p leave, with noise that is a counter-based hash of (seed, position, token id): the
/// same choice however the vocabulary is split or the batch is composed (Gumbel-max: arXiv 1611.00712,
/// section 2).
int32_t sample(std::span<const float> logits, const SamplingParams& params, int64_t position);

/// Natural log-probability of `token` and of the `count` most likely tokens (descending, ties to the lowest
/// id) before temperature and filters.
TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int32_t count);

}  // namespace longspan
