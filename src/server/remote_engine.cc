#include "server/remote_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "server/client_body.h"
#include "server/http_client.h"
#include "text/chat_template.h"
#include "text/prompt_tokens.h"
#include "text/tokenizer.h"

namespace longspan::server {
namespace {

using nlohmann::json;

constexpr auto kStep = std::chrono::milliseconds(100);

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

[[noreturn]] void unreadable(const std::string& what) {
  throw Error(ErrorCode::kUnreadable, what);
}

[[noreturn]] void refuse_schema() {
  throw Error(ErrorCode::kNotSupported, "a JSON schema is not passed on to a server in this build");
}

json parsed(const HttpAnswer& answer) {
  json body = json::parse(answer.body, nullptr, false);
  if (answer.status == 200 && body.is_object()) return body;
  std::string reason;
  if (body.is_object() && body.contains("error") && body["error"].is_object() &&
      body["error"].contains("message"))
    reason = body["error"]["message"].dump();
  unreadable(fmt::format("the server answered with status {} {}", answer.status, reason));
}

Result result_of(const json& body, bool chat) {
  const json* choice = nullptr;
  if (body.contains("choices") && body["choices"].is_array() && !body["choices"].empty())
    choice = &body["choices"][0];
  const json* text = nullptr;
  if (choice && chat && choice->contains("message") && (*choice)["message"].contains("content"))
    text = &(*choice)["message"]["content"];
  if (choice && !chat && choice->contains("text")) text = &(*choice)["text"];
  if (!text || !text->is_string()) unreadable("the server's answer has no text");
  Result result;
  result.text = text->get<std::string>();
  result.finish_reason =
      choice->value("finish_reason", json()) == "length" ? FinishReason::kLength : FinishReason::kStop;
  if (body.contains("usage") && body["usage"].is_object())
    result.prompt_tokens = body["usage"].value("prompt_tokens", 0);
  return result;
}

Result failed(RequestId id, const Error& error) {
  Result result;
  result.id = id;
  result.finish_reason = FinishReason::kError;
  result.error_code = error.code();
  result.error_message = error.what();
  return result;
}

class RemoteEngine final : public Engine {
 public:
  explicit RemoteEngine(const RemoteOptions& options);
  ~RemoteEngine() override;

  RequestId submit(Request request) override;
  void prepare_schema(const std::string&) const override { refuse_schema(); }
  void cancel(RequestId id) override;
  bool step() override;
  using Engine::tokenize;
  std::vector<int32_t> tokenize(const Prompt& prompt, const ChatOptions& chat) const override;
  std::string detokenize(const std::vector<int32_t>& ids) const override {
    return tokenizer_ ? tokenizer_->decode(ids, true) : "";
  }
  std::string token_bytes(int32_t id) const override {
    return tokenizer_ ? std::string(tokenizer_->token_bytes(id)) : "";
  }
  EngineInfo info() const override { return info_; }
  HardwareLimits measure_limits() const override { return {}; }
  EngineStats stats() const override { return {}; }
  std::vector<RequestStatus> requests() const override { return {}; }
  void check_integrity() const override {}

 private:
  struct Job {
    RequestId id = 0;
    Request request;
  };
  void work(HttpClient& client);
  Result answer(HttpClient& client, const Job& job) const;

  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::string base_, model_;
  EngineInfo info_;
  std::vector<std::unique_ptr<HttpClient>> clients_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_workers_, wake_stepper_;
  bool stopping_ = false;
  RequestId next_id_ = 1;
  std::map<RequestId, std::function<void(const Result&)>> live_;  // what to call at their end
  std::deque<Job> waiting_;
  std::deque<Result> done_;  // also of requests that are not live any more: cancelled ones
};

RemoteEngine::RemoteEngine(const RemoteOptions& options) {
  HttpUrl url = parse_url(options.url);
  if (!url.base.ends_with("/v1")) url.base += "/v1";
  if (!options.model_folder.empty()) {
    tokenizer_ = Tokenizer::load(options.model_folder);
    chat_template_ = ChatTemplate::load(options.model_folder, options.chat_template);
  }
  for (size_t i = 0; i < std::max<size_t>(options.parallel, 1); ++i)
    clients_.push_back(std::make_unique<HttpClient>(url, options.api_key, options.timeout_s));
  const json models = parsed(clients_[0]->get("/models"));
  if (!models.contains("data") || !models["data"].is_array() || models["data"].empty() ||
      !models["data"][0].contains("id"))
    unreadable("the server lists no model");
  const json& first = models["data"][0];
  model_ = options.model_name.empty() ? first["id"].get<std::string>() : options.model_name;
  info_.architecture = model_;
  info_.device = fmt::format("{} at {}", model_, options.url);
  info_.context_length = first.value("max_model_len", int64_t{1} << 31);
  for (const auto& client : clients_) threads_.emplace_back([this, &client] { work(*client); });
}

RemoteEngine::~RemoteEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_workers_.notify_all();
  for (const auto& client : clients_) client->stop();
  for (std::thread& thread : threads_) thread.join();
}

RequestId RemoteEngine::submit(Request request) {
  const std::lock_guard lock(mutex_);
  const RequestId id = next_id_++;
  live_.emplace(id, std::move(request.on_finish));
  waiting_.push_back({id, std::move(request)});
  wake_workers_.notify_one();
  return id;
}

// An answer that is under way is thrown away when it comes.
void RemoteEngine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const Job& job) { return job.id == id; });
  done_.push_front(failed(id, Error(ErrorCode::kCancelled, "the request was cancelled")));
  wake_stepper_.notify_one();
}

bool RemoteEngine::step() {
  Result result;
  std::function<void(const Result&)> on_finish;
  {
    std::unique_lock lock(mutex_);
    if (live_.empty()) return false;
    if (!wake_stepper_.wait_for(lock, kStep, [&] { return !done_.empty(); })) return true;
    result = std::move(done_.front());
    done_.pop_front();
    const auto live = live_.find(result.id);
    if (live == live_.end()) return true;
    on_finish = std::move(live->second);
    live_.erase(live);
  }
  if (on_finish) on_finish(result);
  return true;
}

void RemoteEngine::work(HttpClient& client) {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_workers_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Result result = answer(client, job);
    lock.lock();
    done_.push_back(std::move(result));
    wake_stepper_.notify_one();
  }
}

Result RemoteEngine::answer(HttpClient& client, const Job& job) const {
  const double begin = now_ms();
  try {
    if (job.request.sampling.logprobs >= 0 || job.request.sampling.prompt_logprobs)
      throw Error(ErrorCode::kNotSupported, "log-probabilities from a server are not in this build");
    if (!job.request.sampling.json_schema.empty()) refuse_schema();
    const bool chat = is_chat(job.request);
    const std::string body = body_text(client_body(model_, job.request));
    Result result = result_of(parsed(client.post(chat ? "/chat/completions" : "/completions", body)), chat);
    result.id = job.id;
    result.ttft_ms = now_ms() - begin;
    return result;
  } catch (const Error& error) {
    return failed(job.id, error);
  } catch (const std::exception& error) {
    return failed(job.id,
                  Error(ErrorCode::kUnreadable, fmt::format("the server's answer: {}", error.what())));
  }
}

std::vector<int32_t> RemoteEngine::tokenize(const Prompt& prompt, const ChatOptions& chat) const {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return *ids;
  if (!tokenizer_)
    throw Error(ErrorCode::kUsage,
                "-m is missing: prompts of a given length need the model's tokenizer (-m FOLDER)");
  return prompt_tokens(prompt, chat, *tokenizer_, *chat_template_);
}

}  // namespace

std::unique_ptr<Engine> open_remote_engine(const RemoteOptions& options) {
  return std::make_unique<RemoteEngine>(options);
}

}  // namespace longspan::server
