#include "cli/fake_engine.h"

#include <algorithm>

namespace longspan::cli {

std::string prompt_text(const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  std::string joined;
  if (const auto* messages = std::get_if<std::vector<Message>>(&prompt)) {
    for (const Message& message : *messages) joined += "<" + message.role + ">" + message.content;
    return joined;
  }
  for (const int32_t id : std::get<std::vector<int32_t>>(prompt)) joined += static_cast<char>(id);
  return joined;
}

FakeEngine::FakeEngine(FakeScript& script, const EngineOptions& options)
    : script_(script), options_(options) {
  script_.opened.push_back(options);
}

std::vector<int32_t> FakeEngine::tokenize(const Prompt& prompt, const ChatOptions&) const {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return *ids;
  const std::string text = prompt_text(prompt);
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string FakeEngine::detokenize(const std::vector<int32_t>& token_ids) const {
  return prompt_text(token_ids);
}

EngineInfo FakeEngine::info() const {
  return {.architecture = "FakeForCausalLM",
          .device = "fake",
          .ranks = options_.layout.cp,
          .threads_per_rank = 1,
          .weight_bytes = 1000,
          .kv_bytes = 2000,
          .kv_tokens = script_.pool_tokens,
          .context_length = script_.context_length,
          .page_size = options_.page_size};
}

float FakeEngine::logprob(int32_t token) const {
  const double error = options_.layout.cp > 1 ? script_.cp_error : 0;
  return static_cast<float>(-(token % 8) / 8.0 + error);
}

RequestId FakeEngine::submit(Request request) {
  Live live;
  live.id = next_id_++;
  live.prompt = tokenize(request.prompt);
  live.reply = script_.reply(prompt_text(request.prompt));
  live.idle = script_.steps(prompt_text(request.prompt));
  live.result.id = live.id;
  live.result.prompt_tokens = static_cast<int32_t>(live.prompt.size());
  script_.prompts.push_back(request.prompt);
  script_.samplings.push_back(request.sampling);
  live.request = std::move(request);
  live_.push_back(std::move(live));
  script_.most_running = std::max(script_.most_running, live_.size());
  return live_.back().id;
}

void FakeEngine::cancel(RequestId id) {
  for (Live& live : live_) live.cancelled |= live.id == id;
}

void FakeEngine::fail(Live& live, ErrorCode code, const std::string& message) {
  live.result.finish_reason = FinishReason::kError;
  live.result.error_code = code;
  live.result.error_message = message;
  if (live.request.on_finish) live.request.on_finish(live.result);
}

void FakeEngine::finish(Live& live) {
  const SamplingParams& sampling = live.request.sampling;
  if (sampling.prompt_logprobs) {
    for (const int32_t id : live.prompt) live.result.prompt_logprobs.emplace_back(logprob(id));
    live.result.prompt_logprobs[0].reset();
  }
  if (sampling.logprobs >= 0) {
    for (const int32_t id : live.result.token_ids) {
      TokenLogprob token{id, logprob(id), {}};
      for (int32_t i = 0; i < sampling.logprobs; ++i)
        token.top.emplace_back(id + i, logprob(id) - static_cast<float>(i));
      live.result.logprobs.push_back(token);
    }
  }
  live.result.ttft_ms = 2000;
  live.result.prefill_ms = 1000;
  live.result.decode_ms = 500;
  if (live.request.on_finish) live.request.on_finish(live.result);
}

bool FakeEngine::advance(Live& live) {
  const auto total = static_cast<int32_t>(live.prompt.size());
  if (live.cancelled) return fail(live, ErrorCode::kCancelled, "the request was cancelled"), true;
  if (total > script_.context_length) return fail(live, ErrorCode::kContextLength, "over the context"), true;
  if (total > script_.pool_tokens) return fail(live, ErrorCode::kCapacity, "over the pool"), true;
  if (live.idle-- > 0) return false;
  if (live.computed < total) {
    live.computed = std::min(total, live.computed + script_.chunk);
    if (live.request.on_progress) live.request.on_progress({total, 0, live.computed, live.computed * 1.0});
    if (live.computed < total) return false;
  }
  const auto room = static_cast<size_t>(live.request.sampling.max_tokens);
  if (live.result.token_ids.size() < std::min(room, live.reply.size())) {
    const char c = live.reply[live.result.token_ids.size()];
    live.result.token_ids.push_back(static_cast<unsigned char>(c));
    live.result.text += c;
    if (live.request.on_token) live.request.on_token(static_cast<unsigned char>(c), std::string(1, c));
  }
  const bool stopped = live.result.token_ids.size() == live.reply.size();
  if (!stopped && live.result.token_ids.size() < room) return false;
  live.result.finish_reason = stopped ? FinishReason::kStop : FinishReason::kLength;
  finish(live);
  return true;
}

bool FakeEngine::step() {
  if (live_.empty()) return false;
  ++steps_;
  if (script_.on_step) script_.on_step(steps_);
  if (script_.die_at_step == steps_) {
    for (Live& live : live_) fail(live, ErrorCode::kRankLost, "a rank was lost");
    live_.clear();
    throw Error(ErrorCode::kRankLost, "a rank was lost");
  }
  for (size_t i = 0; i < live_.size();) {
    if (advance(live_[i])) {
      live_.erase(live_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  return true;
}

}  // namespace longspan::cli
