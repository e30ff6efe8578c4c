#include "engine/active_request.h"

#include <algorithm>
#include <utility>

#include "engine/sampler.h"

namespace longspan {

ActiveRequest::ActiveRequest(RequestId id, Request request, std::unique_ptr<TokenMask> mask,
                             double submitted_ms, const Tokenizer& tokenizer, int32_t cp)
    : request_(std::move(request)),
      mask_(std::move(mask)),
      detokenizer_(tokenizer),
      stop_matcher_(request_.sampling.stop),
      rank_tokens_(static_cast<size_t>(cp)),
      submitted_ms_(submitted_ms) {
  result_.id = id;
}

std::unique_ptr<Sequence> ActiveRequest::start(std::vector<int32_t> prompt, int32_t new_tokens_limit) {
  new_tokens_limit_ = new_tokens_limit;
  auto sequence = std::make_unique<Sequence>();
  sequence->id = result_.id;
  sequence->prompt_len = static_cast<int32_t>(prompt.size());
  // The last generated token is never fed back, so it needs no KV.
  sequence->max_computed = sequence->prompt_len + std::max(new_tokens_limit - 1, 0);
  sequence->reuse_prefix = !request_.sampling.prompt_logprobs;
  sequence->tenant = request_.tenant;
  sequence->salt = request_.cache_salt;
  sequence->tokens = std::move(prompt);
  result_.prompt_tokens = sequence->prompt_len;
  if (request_.sampling.prompt_logprobs) result_.prompt_logprobs.resize(sequence->prompt_len);
  return sequence;
}

void ActiveRequest::note_step_begin(const Sequence& sequence, double now_ms) {
  if (!first_step_ms_) first_step_ms_ = told_at_ms_ = now_ms;
  step_begin_ms_ = now_ms;
  step_from_ = sequence.computed;
}

void ActiveRequest::note_prefill(const Sequence& sequence, std::span<const int32_t> rank_tokens,
                                 double now_ms) {
  const int32_t processed = std::min(sequence.computed, sequence.prompt_len);
  if (first_token_ms_ || processed <= processed_) return;  // computed again after a preemption
  double took_ms = now_ms - told_at_ms_;
  if (std::exchange(preemptions_, sequence.preemptions) != sequence.preemptions) {
    const double again = std::max(0, processed_ - step_from_);  // of this step's tokens
    took_ms = (now_ms - step_begin_ms_) * (1 - again / (processed - step_from_));
  }
  told_ms_ += took_ms;
  told_at_ms_ = now_ms;
  processed_ = processed;
  for (size_t rank = 0; rank < rank_tokens.size(); ++rank) rank_tokens_[rank] += rank_tokens[rank];
  result_.cached_tokens = sequence.cached_tokens;
  if (!request_.on_progress) return;
  request_.on_progress({.total = sequence.prompt_len,
                        .cached = result_.cached_tokens,
                        .processed = processed,
                        .elapsed_ms = told_ms_,
                        .rank_tokens = rank_tokens_});
}

bool ActiveRequest::accept(int32_t token, std::span<const float> logits, bool end_token, double now_ms) {
  if (!first_token_ms_) first_token_ms_ = now_ms;
  result_.token_ids.push_back(token);
  if (request_.sampling.logprobs >= 0) {
    result_.logprobs.push_back(token_logprob(logits, token, request_.sampling.logprobs));
    if (request_.on_logprob) request_.on_logprob(result_.logprobs.back());
  }
  if (end_token && !request_.sampling.ignore_eos) {
    result_.finish_reason = FinishReason::kStop;
    emit(token, "");
    return true;
  }
  emit(token, stop_matcher_.push(detokenizer_.push(token)));
  if (stop_matcher_.matched()) result_.finish_reason = FinishReason::kStop;
  return stop_matcher_.matched() || !wants_tokens();
}

void ActiveRequest::emit(int32_t token, const std::string& text) {
  result_.text += text;
  if (request_.on_token) request_.on_token(token, text);
}

void ActiveRequest::finish(double now_ms) {
  const std::string rest = stop_matcher_.push(detokenizer_.finish()) + stop_matcher_.finish();
  result_.text += rest;
  if (request_.on_token && !rest.empty()) request_.on_token(-1, rest);
  const double first_token_ms = first_token_ms_.value_or(now_ms);
  result_.ttft_ms = first_token_ms - submitted_ms_;
  result_.prefill_ms = first_token_ms - first_step_ms_.value_or(now_ms);
  result_.decode_ms = now_ms - first_token_ms;
  if (request_.on_finish) request_.on_finish(result_);
}

void ActiveRequest::fail(ErrorCode code, const std::string& message) {
  result_.finish_reason = FinishReason::kError;
  result_.error_code = code;
  result_.error_message = message;
  if (request_.on_finish) request_.on_finish(result_);
}

}  // namespace longspan
