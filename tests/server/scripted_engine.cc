#include "server/scripted_engine.h"

#include <chrono>
#include <thread>
#include <utility>

#include "grammar/json_schema.h"

namespace longspan::server {

RequestId ScriptedEngine::submit(Request request) {
  const std::lock_guard lock(mutex_);
  samplings.push_back(request.sampling);
  tenants.push_back(request.tenant);
  arrivals_.emplace(next_id_, std::move(request));
  return next_id_++;
}

void ScriptedEngine::prepare_schema(const std::string& schema) const {
  if (!ends) throw Error(ErrorCode::kNotSupported, "json_schema: no token ends an answer");
  compile_json_schema(schema);
}

void ScriptedEngine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  cancellations_.push_back(id);
}

std::vector<int32_t> ScriptedEngine::tokenize(const Prompt& prompt, const ChatOptions&) const {
  std::string text;
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return *ids;
  if (const auto* plain = std::get_if<std::string>(&prompt)) text = *plain;
  if (const auto* messages = std::get_if<std::vector<Message>>(&prompt)) {
    for (const Message& message : *messages) text += message.content;
  }
  return {text.begin(), text.end()};
}

EngineStats ScriptedEngine::stats() const {
  EngineStats stats;
  stats.running = static_cast<int64_t>(live_.size());
  stats.preemptions = preemptions;
  return stats;
}

void ScriptedEngine::fail(Live& live, ErrorCode code, const std::string& message) {
  live.result.finish_reason = FinishReason::kError;
  live.result.error_code = code;
  live.result.error_message = message;
  live.request.on_finish(live.result);
}

bool ScriptedEngine::step() {
  std::map<RequestId, Request> arrivals;
  std::vector<RequestId> cancellations;
  {
    const std::lock_guard lock(mutex_);
    arrivals.swap(arrivals_);
    cancellations.swap(cancellations_);
  }
  for (auto& [id, request] : arrivals) {
    Live live{std::move(request), {}};
    live.result.prompt_tokens =
        static_cast<int32_t>(std::get<std::vector<int32_t>>(live.request.prompt).size());
    live_.emplace(id, std::move(live));
  }
  for (const RequestId id : cancellations) {
    const auto found = live_.find(id);
    if (found == live_.end()) continue;
    auto live = std::move(found->second);
    live_.erase(found);
    fail(live, ErrorCode::kCancelled, "the request was cancelled");
  }
  if (dead_ || die) {
    dead_ = true;
    for (auto& [id, live] : std::exchange(live_, {}))
      fail(live, ErrorCode::kRankLost, "rank 1 failed: a test");
    throw Error(ErrorCode::kRankLost, "rank 1 failed: a test");
  }
  if (live_.empty() || !go) return false;
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::vector<RequestId> done;
  for (auto& [id, live] : live_) {
    auto& tokens = live.result.token_ids;
    if (tokens.empty())
      live.request.on_progress({.total = live.result.prompt_tokens, .processed = live.result.prompt_tokens});
    if (std::ssize(tokens) < live.request.sampling.max_tokens) {
      const char c = static_cast<char>('a' + tokens.size() % 26);
      tokens.push_back(c);
      live.result.text += c;
      live.request.on_token(c, std::string(1, c));
    }
    if (std::ssize(tokens) >= live.request.sampling.max_tokens) done.push_back(id);
  }
  for (const RequestId id : done) {
    auto live = std::move(live_.at(id));
    live_.erase(id);
    live.request.on_finish(live.result);
  }
  return true;
}

}  // namespace longspan::server
