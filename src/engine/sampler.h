#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <span>

namespace longspan {

/// Picks the next token from logits [V] (f32). `position` is the place of the new token in its sequence.
/// Temperature 0: the largest logit, ties to the lowest id. Else Gumbel-max over the tokens that top-k and
/// then top-p leave, with noise that is a counter-based hash of (seed, position, token id): the same choice
/// however the vocabulary is split or the batch is composed (Gumbel-max: arXiv 1611.00712, section 2).
int32_t sample(std::span<const float> logits, const SamplingParams& params, int64_t position);

/// Natural log-probability of `token` and of the `count` most likely tokens (descending, ties to the lowest
/// id) before temperature and filters.
TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int32_t count);

}  // namespace longspan
