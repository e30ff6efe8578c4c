#pragma once

#include <longspan/request.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/stop_matcher.h"
#include "grammar/token_mask.h"
#include "schedule/scheduler.h"
#include "text/detokenizer.h"

namespace longspan {

/// One request on its way through the engine: what it asked for, and what has been found out so far. Turns
/// computed tokens into text, progress and the final Result; knows no batch and no device.
class ActiveRequest {
 public:
  /// `mask`: which tokens may come; null: all.
  ActiveRequest(RequestId id, Request request, std::unique_ptr<TokenMask> mask, double submitted_ms,
                const Tokenizer& tokenizer, int32_t cp);

  RequestId id() const { return result_.id; }
  const SamplingParams& sampling() const { return request_.sampling; }
  TokenMask* mask() { return mask_.get(); }

  /// The prompt's tokens are known: prepares the result and the scheduler's view of it.
  std::unique_ptr<Sequence> start(std::vector<int32_t> prompt, int32_t new_tokens_limit);

  void note_step_begin(const Sequence& sequence, double now_ms);
  /// `rank_tokens` [cp]: what each rank computed of it in this step; empty: it was not cut.
  void note_prefill(const Sequence& sequence, std::span<const int32_t> rank_tokens, double now_ms);
  /// [cp] of all steps so far.
  const std::vector<int32_t>& rank_tokens() const { return rank_tokens_; }
  void note_prompt_score(int32_t position, float logprob) { result_.prompt_logprobs[position] = logprob; }
  /// Takes a generated token; `logits` [V] is what it was drawn from. True if the request is done.
  bool accept(int32_t token, std::span<const float> logits, bool end_token, double now_ms);
  /// More tokens were asked for and fit the context.
  bool wants_tokens() const { return std::ssize(result_.token_ids) < new_tokens_limit_; }

  void finish(double now_ms);
  void fail(ErrorCode code, const std::string& message);

 private:
  void emit(int32_t token, const std::string& text);

  Request request_;
  std::unique_ptr<TokenMask> mask_;
  Result result_;
  Detokenizer detokenizer_;
  StopMatcher stop_matcher_;
  int32_t new_tokens_limit_ = 0;
  std::vector<int32_t> rank_tokens_;
  int32_t processed_ = 0;    // of the prompt, as told last
  int32_t step_from_ = 0;    // tokens known before this step
  int32_t preemptions_ = 0;  // as told last
  double submitted_ms_, step_begin_ms_ = 0;
  double told_ms_ = 0, told_at_ms_ = 0;  // elapsed_ms as told last, and when that was
  std::optional<double> first_step_ms_, first_token_ms_;
};

}  // namespace longspan
