#include "server/generation.h"

#include <algorithm>
#include <utility>

#include "server/api_error.h"

namespace longspan::server {
namespace {

constexpr const char* kEventStream = "text/event-stream; charset=utf-8";

// Choices after the first draw from seeds of their own.
uint64_t seed_of(uint64_t seed, uint64_t choice) {
  return seed + choice * 0x9e3779b97f4a7c15u;
}

}  // namespace

Generation::Generation(const GenerationHost& host, AnswerHead head, GenerationRequest request,
                       std::vector<std::vector<int32_t>> prompts, AdmissionTicket ticket,
                       std::shared_ptr<Exchange> exchange)
    : host_(host),
      head_(std::move(head)),
      request_(std::move(request)),
      prompts_(std::move(prompts)),
      exchange_(std::move(exchange)),
      ticket_(std::move(ticket)) {
  for (int32_t i = 0; i < request_.choices(); ++i) choices_.emplace_back(host_.engine);
  const EngineInfo info = host_.engine.info();
  if (!request_.chat || !info.thinks) return;
  for (Choice& choice : choices_) choice.splitter.emplace(info.opens_thinking);
}

Generation::~Generation() {
  host_.list.remove(head_.id);
}

void Generation::start() {
  host_.list.add(head_.id, weak_from_this());
  exchange_->on_gone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->on_gone();
  });
  const std::lock_guard lock(mutex_);
  if (over_) {  // its client has gone already: it counts all the same
    Result gone;
    gone.finish_reason = FinishReason::kError;
    gone.error_code = ErrorCode::kCancelled;
    return host_.metrics.on_result(gone);
  }
  for (size_t choice = 0; choice < choices_.size(); choice += static_cast<size_t>(request_.n)) submit(choice);
}

void Generation::submit(size_t choice) {
  const auto self = shared_from_this();
  Request request;
  request.prompt = prompts_[prompt_of(choice)];
  request.sampling = request_.sampling;
  request.tenant = request_.tenant;
  request.cache_salt = request_.cache_salt;
  request.sampling.max_tokens = *request_.max_tokens;
  request.sampling.seed = seed_of(*request_.seed, choice % static_cast<size_t>(request_.n));
  request.on_progress = [self, choice](const Progress& progress) { self->on_progress(choice, progress); };
  if (request_.sampling.logprobs >= 0)
    request.on_logprob = [self, choice](const TokenLogprob& token) { self->on_logprob(choice, token); };
  request.on_token = [self, choice](int32_t, const std::string& text) { self->on_token(choice, text); };
  request.on_finish = [self, choice](const Result& result) { self->on_finish(choice, result); };
  choices_[choice].submitted = true;
  choices_[choice].id = host_.loop.submit(std::move(request));
}

// The prompt of this choice is computed: the other choices of it find it in the prefix tree.
void Generation::submit_others(size_t choice) {
  if (over_ || choice % static_cast<size_t>(request_.n) != 0) return;
  for (size_t other = choice + 1; other < choice + static_cast<size_t>(request_.n); ++other) {
    if (!choices_[other].submitted) submit(other);
  }
}

void Generation::cancel_all() {
  for (const Choice& choice : choices_) {
    if (choice.submitted && !choice.done) host_.loop.cancel(choice.id);
  }
}

void Generation::on_gone() {
  const std::lock_guard lock(mutex_);
  over_ = true;
  cancel_all();
}

void Generation::cancel() {
  const std::lock_guard lock(mutex_);
  cancel_all();
}

void Generation::on_progress(size_t choice, const Progress& progress) {
  const std::lock_guard lock(mutex_);
  const Progress before = std::exchange(choices_[choice].progress, progress);
  host_.eta.observe(std::max(before.processed, progress.cached), progress.processed,
                    progress.elapsed_ms - before.elapsed_ms);
  if (over_ || choice % static_cast<size_t>(request_.n) != 0) return;
  begin_stream();
  if (request_.return_progress) send_progress(choice);
}

void Generation::send_progress(size_t choice) {
  const Progress& progress = choices_[choice].progress;
  OrderedJson json = {
      {"total", progress.total}, {"cached", progress.cached}, {"processed", progress.processed}};
  json["eta_ms"] =
      host_.eta.remaining_ms(progress.cached, progress.processed, progress.total, progress.elapsed_ms);
  json["cp"] = progress.rank_tokens.size();
  json["rank_tokens"] = progress.rank_tokens;
  OrderedJson chunk = answer_json(head_, true, OrderedJson::array(), nullptr);
  if (prompts_.size() > 1) json["prompt"] = prompt_of(choice);
  if (request_.include_usage) chunk["usage"] = nullptr;
  chunk["prompt_progress"] = std::move(json);
  exchange_->write(event(dump(chunk)));
}

void Generation::on_logprob(size_t choice, const TokenLogprob& token) {
  const std::lock_guard lock(mutex_);
  if (request_.chat) {
    choices_[choice].chat_logprobs.push_back(chat_logprob(host_.engine, token));
  } else if (request_.stream) {  // else all at the end, after the prompt's
    choices_[choice].completion_logprobs.add(token);
  }
}

void Generation::on_token(size_t choice, const std::string& text) {
  const std::lock_guard lock(mutex_);
  const double now = host_.now();
  const auto before = std::exchange(choices_[choice].last_token_s, now);
  if (before) host_.metrics.on_token_gap(now - *before);
  submit_others(choice);
  if (over_ || text.empty()) return;
  begin_stream();
  if (request_.chat) {
    std::optional<ThinkSplitter>& splitter = choices_[choice].splitter;
    take_chat_text(choice, splitter ? splitter->push(text) : ThinkSplitter::Parts{"", text});
  } else if (request_.stream) {
    send_chunk(delta_json(choice, text, nullptr), nullptr);
  }
}

void Generation::take_chat_text(size_t choice, ThinkSplitter::Parts parts) {
  if (!request_.stream) {
    choices_[choice].reasoning += parts.reasoning;
    choices_[choice].content += parts.content;
    return;
  }
  OrderedJson delta = OrderedJson::object();
  if (!parts.reasoning.empty()) delta["reasoning_content"] = std::move(parts.reasoning);
  if (!parts.content.empty()) delta["content"] = std::move(parts.content);
  if (!delta.empty()) send_chunk(delta_json(choice, std::move(delta), nullptr), nullptr);
}

void Generation::on_finish(size_t choice, const Result& result) {
  host_.metrics.on_result(result);
  const std::lock_guard lock(mutex_);
  ticket_.give_back(1);
  choices_[choice].done = true;
  choices_[choice].result = result;
  ++done_;
  if (over_) return;
  if (result.error_code) return fail(result);
  submit_others(choice);
  begin_stream();
  if (choices_[choice].splitter) take_chat_text(choice, choices_[choice].splitter->finish());
  if (request_.stream) {
    send_chunk(delta_json(choice, request_.chat ? OrderedJson::object() : OrderedJson(""),
                          to_string(result.finish_reason)),
               nullptr);
  }
  if (done_ < choices_.size()) return;
  over_ = true;
  if (!request_.stream) return respond();
  if (request_.include_usage) {
    exchange_->write(event(dump(answer_json(head_, true, OrderedJson::array(), usage_json(usage())))));
  }
  exchange_->write(event("[DONE]"));
  exchange_->end_stream();
}

OrderedJson Generation::list(const std::vector<RequestStatus>& statuses) {
  OrderedJson all = OrderedJson::array();
  const std::lock_guard lock(mutex_);
  for (size_t choice = 0; choice < choices_.size(); ++choice) {
    const Choice& of = choices_[choice];
    if (of.done) continue;
    const auto found = std::find_if(statuses.begin(), statuses.end(),
                                    [&](const RequestStatus& s) { return of.submitted && s.id == of.id; });
    RequestStatus status{.prompt_tokens = static_cast<int32_t>(prompts_[prompt_of(choice)].size())};
    if (found != statuses.end()) status = *found;
    all.push_back({{"id", head_.id},
                   {"object", "longspan.request"},
                   {"created", head_.created},
                   {"choice", choice},
                   {"state", over_            ? "cancelled"
                             : status.running ? "running"
                                              : "waiting"},
                   {"prompt_tokens", status.prompt_tokens},
                   {"cached_tokens", status.cached_tokens},
                   {"processed_tokens", status.processed_tokens},
                   {"generated_tokens", status.new_tokens},
                   {"pages", status.pages},
                   {"rank_tokens", status.rank_tokens}});
  }
  return all;
}

void Generation::fail(const Result& result) {
  over_ = true;
  ApiError error = api_error(*result.error_code, result.error_message);
  if (result.error_code == ErrorCode::kCancelled && host_.stopping()) {
    error.status = 503;
    error.message = "the server is shutting down";
    error.type = "server_error";
  }
  if (streaming_) {
    exchange_->write(event(error_body(error)));
    exchange_->end_stream();
  } else {
    exchange_->respond(error_response(error));
  }
  cancel_all();
}

// The status is sent only when the engine has taken the request: what it refuses gets another.
void Generation::begin_stream() {
  if (!request_.stream || streaming_) return;
  streaming_ = true;
  exchange_->begin_stream(kEventStream);
  for (size_t choice = 0; choice < choices_.size(); ++choice) {
    if (request_.chat) {
      send_chunk(delta_json(choice, OrderedJson::object({{"role", "assistant"}, {"content", ""}}), nullptr),
                 nullptr);
    } else if (request_.echo) {
      send_chunk(delta_json(choice, prompt_text(prompt_of(choice)), nullptr), nullptr);
    }
  }
}

void Generation::send_chunk(OrderedJson choice, OrderedJson usage) {
  OrderedJson chunk = answer_json(head_, true, OrderedJson::array({std::move(choice)}), std::move(usage));
  if (request_.include_usage && !chunk.contains("usage")) chunk["usage"] = nullptr;
  exchange_->write(event(dump(chunk)));
}

OrderedJson Generation::take_logprobs(size_t choice) {
  Choice& of = choices_[choice];
  if (request_.sampling.logprobs < 0) return nullptr;
  if (!request_.chat) return of.completion_logprobs.take();
  return {{"content", std::exchange(of.chat_logprobs, OrderedJson::array())}, {"refusal", nullptr}};
}

// `delta`: of a chat an object, else the text.
OrderedJson Generation::delta_json(size_t choice, OrderedJson delta, OrderedJson finish_reason) {
  return {{"index", choice},
          {request_.chat ? "delta" : "text", std::move(delta)},
          {"logprobs", take_logprobs(choice)},
          {"finish_reason", std::move(finish_reason)}};
}

OrderedJson Generation::choice_json(size_t choice) {
  Choice& of = choices_[choice];
  const std::vector<int32_t>& prompt = prompts_[prompt_of(choice)];
  OrderedJson json = {{"index", choice}};
  if (request_.chat) {
    json["message"] = {{"role", "assistant"}, {"content", of.content}, {"refusal", nullptr}};
    if (of.splitter) json["message"]["reasoning_content"] = of.reasoning;
  } else {
    json["text"] = (request_.echo ? prompt_text(prompt_of(choice)) : "") + of.result.text;
    for (size_t i = 0; i < of.result.prompt_logprobs.size(); ++i)
      of.completion_logprobs.add_prompt(prompt[i], of.result.prompt_logprobs[i]);
    for (const TokenLogprob& token : of.result.logprobs) of.completion_logprobs.add(token);
  }
  json["logprobs"] = take_logprobs(choice);
  json["finish_reason"] = to_string(of.result.finish_reason);
  return json;
}

void Generation::respond() {
  OrderedJson choices = OrderedJson::array();
  for (size_t choice = 0; choice < choices_.size(); ++choice) choices.push_back(choice_json(choice));
  exchange_->respond({.body = dump(answer_json(head_, false, std::move(choices), usage_json(usage())))});
}

std::string Generation::prompt_text(size_t prompt) const {
  if (const auto* text = std::get_if<std::string>(&request_.prompts[prompt])) return *text;
  return host_.engine.detokenize(prompts_[prompt]);
}

// Each prompt counts once; what its first choice found in the prefix tree was cached.
Usage Generation::usage() const {
  Usage sum;
  for (size_t choice = 0; choice < choices_.size(); ++choice) {
    const Result& result = choices_[choice].result;
    sum.completion_tokens += static_cast<int64_t>(result.token_ids.size());
    if (choice % static_cast<size_t>(request_.n) != 0) continue;
    sum.prompt_tokens += result.prompt_tokens;
    sum.cached_tokens += result.cached_tokens;
  }
  return sum;
}

}  // namespace longspan::server
