#include "server/openai_api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <string_view>
#include <utility>

#include "grammar/json_schema.h"
#include "server/api_error.h"
#include "server/api_format.h"
#include "server/api_request.h"
#include "server/header_text.h"
#include "server/page.h"
#include "server/secret.h"

namespace longspan::server {
namespace {

constexpr int32_t kCompletionTokens = 16;  // OpenAI's default for /v1/completions
constexpr int32_t kChatTokens = 4096;      // for chats, whose API has none
constexpr int kRetryAfterSeconds = 1;
constexpr size_t kLongestPlace = 256;  // in a schema, as a message names it

[[noreturn]] void refuse(int status, const char* type, const std::string& message,
                         std::optional<std::string> code = {}) {
  ApiError error;
  error.status = status;
  error.type = type;
  error.message = message;
  error.code = std::move(code);
  throw error;
}

bool is_json(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  if (!starts_with_any_case(content_type, kJson)) return false;
  return content_type.size() == kJson.size() || content_type[kJson.size()] == ';' ||
         content_type[kJson.size()] == ' ';
}

}  // namespace

struct OpenAiApi::Route {
  std::string_view method, path;                 // a path that ends in "/*" stands for all below it
  enum Needs { kNothing, kKey, kEngine } needs;  // each what stands before it, too
  void (*run)(OpenAiApi& api, const std::shared_ptr<Exchange>& exchange);

  bool matches(std::string_view asked) const {
    if (!path.ends_with("/*")) return asked == path;
    return asked.size() >= path.size() && asked.starts_with(path.substr(0, path.size() - 1));
  }
};

const std::vector<OpenAiApi::Route>& OpenAiApi::routes() {
  using Shared = const std::shared_ptr<Exchange>&;
  constexpr auto kNothing = Route::kNothing, kKey = Route::kKey, kEngine = Route::kEngine;
  static const std::vector<Route> all = {
      {"GET", "/health", kNothing, [](OpenAiApi& api, Shared x) { api.health(*x); }},
      {"GET", "/metrics", kKey, [](OpenAiApi& api, Shared x) { api.metrics(*x); }},
      {"GET", "/v1/requests", kEngine, [](OpenAiApi& api, Shared x) { api.requests(*x); }},
      {"DELETE", "/v1/requests/*", kEngine, [](OpenAiApi& api, Shared x) { api.cancel(*x); }},
      {"GET", "/v1/models", kEngine, [](OpenAiApi& api, Shared x) { api.models(*x); }},
      {"GET", "/v1/models/*", kEngine, [](OpenAiApi& api, Shared x) { api.model(*x); }},
      {"POST", "/v1/completions", kEngine,
       [](OpenAiApi& api, Shared x) {
         api.generate(x, parse_completion(x->request().body, api.options_.defaults));
       }},
      {"POST", "/v1/chat/completions", kEngine,
       [](OpenAiApi& api, Shared x) {
         api.generate(x, parse_chat(x->request().body, api.options_.defaults));
       }},
      {"POST", "/tokenize", kEngine, [](OpenAiApi& api, Shared x) { api.tokenize(*x); }},
      {"POST", "/detokenize", kEngine, [](OpenAiApi& api, Shared x) { api.detokenize(*x); }},
  };
  return all;
}

OpenAiApi::OpenAiApi(ApiOptions options)
    : options_(std::move(options)),
      started_(options_.unix_now()),
      admission_(options_.max_requests, options_.api_keys.size()),
      metrics_(options_.model_name),
      eta_(options_.pair_work) {}

void OpenAiApi::attach(const Engine& engine, EngineLoop& loop) {
  const std::lock_guard lock(mutex_);
  engine_ = &engine;
  loop_ = &loop;
}

void OpenAiApi::fail(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  failure_ = reason;
}

void OpenAiApi::detach() {
  const std::lock_guard lock(mutex_);
  engine_ = nullptr;
  loop_ = nullptr;
}

void OpenAiApi::handle(const std::shared_ptr<Exchange>& exchange) {
  const auto refuse_with = [&](HttpResponse response) {
    metrics_.on_refusal(response.status);
    exchange->respond(std::move(response));
  };
  try {
    const std::shared_lock lock(mutex_);
    dispatch(exchange);
  } catch (const ApiError& error) {
    refuse_with(error_response(error));
  } catch (const Error& error) {
    refuse_with(error_response(api_error(error.code(), error.what())));
  } catch (const std::bad_alloc&) {
    refuse_with(error_response(503, "out of memory"));
  } catch (const std::exception& error) {
    refuse_with(error_response(500, error.what()));
  }
}

void OpenAiApi::dispatch(const std::shared_ptr<Exchange>& exchange) {
  const HttpRequest& request = exchange->request();
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  if (method == "GET") {
    if (auto file = page_file(request.path)) return exchange->respond(std::move(*file));
  }
  std::vector<std::string_view> methods;
  for (const Route& route : routes()) {
    if (!route.matches(request.path)) continue;
    if (route.method != method) {
      methods.push_back(route.method);
      continue;
    }
    if (route.needs >= Route::kKey && !authorized_key(request.authorization, options_.api_keys))
      refuse(401, "invalid_request_error",
             "the API key is missing or wrong; send it as \"Authorization: Bearer KEY\"", "invalid_api_key");
    if (route.needs >= Route::kEngine) require_ready();
    if (route.method == "POST" && !is_json(request.content_type))
      refuse(415, "invalid_request_error", "the Content-Type must be application/json");
    return route.run(*this, exchange);
  }
  if (methods.empty())
    refuse(404, "invalid_request_error", fmt::format("there is no {}", request.path.substr(0, 128)),
           "not_found");
  HttpResponse response =
      error_response(405, fmt::format("{} has no {}", request.path.substr(0, 128), method));
  response.headers.emplace_back("Allow", fmt::format("{}", fmt::join(methods, ", ")));
  exchange->respond(std::move(response));
}

void OpenAiApi::require_ready() const {
  if (failure_) refuse(503, "server_error", *failure_, "rank_lost");
  if (draining_) refuse(503, "server_error", "the server is shutting down", "draining");
  if (!engine_) refuse(503, "server_error", "the model is still being loaded", "loading");
}

void OpenAiApi::require_model(const std::string& name) const {
  if (name == options_.model_name) return;
  ApiError error = bad_field("model", fmt::format("the model \"{}\" does not exist; this server has \"{}\"",
                                                  name.substr(0, 128), options_.model_name));
  error.status = 404;
  error.code = "model_not_found";
  throw error;
}

void OpenAiApi::health(Exchange& exchange) const {
  OrderedJson body = {{"status", failure_ ? "failed" : draining_ ? "draining" : engine_ ? "ok" : "loading"}};
  if (failure_) body["reason"] = *failure_;
  exchange.respond({.status = body["status"] == "ok" ? 200 : 503, .body = dump(body)});
}

void OpenAiApi::models(Exchange& exchange) const {
  const OrderedJson model = {{"id", options_.model_name},
                             {"object", "model"},
                             {"created", started_},
                             {"owned_by", "longspan"},
                             {"max_model_len", engine_->info().context_length}};
  if (exchange.request().path != "/v1/models") return exchange.respond({.body = dump(model)});
  exchange.respond({.body = dump({{"object", "list"}, {"data", OrderedJson::array({model})}})});
}

void OpenAiApi::model(Exchange& exchange) const {
  require_model(exchange.request().path.substr(std::string_view("/v1/models/").size()));
  models(exchange);
}

void OpenAiApi::metrics(Exchange& exchange) {
  std::optional<EngineLoop::Snapshot> snapshot;
  if (loop_) snapshot = loop_->snapshot();
  exchange.respond({.body = metrics_.text(snapshot ? &*snapshot : nullptr),
                    .content_type = "text/plain; version=0.0.4; charset=utf-8"});
}

void OpenAiApi::requests(Exchange& exchange) const {
  const EngineLoop::Snapshot snapshot = loop_->snapshot();
  OrderedJson data = OrderedJson::array();
  for (const auto& generation : list_.all()) {
    for (OrderedJson& entry : generation->list(snapshot.requests)) data.push_back(std::move(entry));
  }
  exchange.respond({.body = dump({{"object", "list"}, {"data", std::move(data)}})});
}

void OpenAiApi::cancel(Exchange& exchange) const {
  const std::string id = exchange.request().path.substr(std::string_view("/v1/requests/").size());
  const auto generation = list_.find(id);
  if (!generation)
    refuse(404, "invalid_request_error", fmt::format("no request {} is under way", id.substr(0, 64)),
           "not_found");
  generation->cancel();
  exchange.respond({.body = dump({{"id", id}, {"object", "longspan.request"}, {"cancelled", true}})});
}

void OpenAiApi::tokenize(Exchange& exchange) const {
  const TokenizeRequest request = parse_tokenize(exchange.request().body);
  if (request.model) require_model(*request.model);
  const std::vector<int32_t> tokens = engine_->tokenize(request.prompt);
  exchange.respond({.body = dump({{"count", tokens.size()},
                                  {"max_model_len", engine_->info().context_length},
                                  {"tokens", tokens}})});
}

void OpenAiApi::detokenize(Exchange& exchange) const {
  const DetokenizeRequest request = parse_detokenize(exchange.request().body);
  if (request.model) require_model(*request.model);
  exchange.respond({.body = dump(OrderedJson::object({{"prompt", engine_->detokenize(request.tokens)}}))});
}

// Without a number a chat may use what is left of context and pool, within reason.
int32_t OpenAiApi::default_max_tokens(const GenerationRequest& request, int64_t prompt_tokens) const {
  const EngineInfo info = engine_->info();
  const int64_t wanted =
      request.chat ? options_.defaults.max_new_tokens.value_or(kChatTokens) : kCompletionTokens;
  const int64_t room = std::min(info.context_length, info.kv_tokens + 1) - prompt_tokens;
  return static_cast<int32_t>(std::clamp<int64_t>(room, 0, wanted));
}

// Here nobody waits: a large schema takes a while, which submit would take under the engine loop's lock.
void OpenAiApi::prepare_schema(const std::string& schema) const {
  if (schema.empty()) return;
  try {
    engine_->prepare_schema(schema);
  } catch (const SchemaError& error) {
    const std::string place = ("response_format.json_schema.schema" + error.place()).substr(0, kLongestPlace);
    throw bad_field(place, fmt::format("\"{}\" {}", place, error.why()));
  } catch (const Error& error) {
    throw bad_field("response_format", error.what());
  }
}

void OpenAiApi::generate(const std::shared_ptr<Exchange>& exchange, GenerationRequest request) {
  require_model(request.model);
  if (!request.sampling.json_schema.empty() && request.chat_options.enable_thinking && engine_->info().thinks)
    throw bad_field("response_format",
                    "this model thinks before it answers, which is no JSON; send \"chat_template_kwargs\": "
                    "{\"enable_thinking\": false} with \"response_format\"");
  const int64_t choices = request.choices();
  if (choices > admission_.most_of_key()) {
    throw bad_field("n", fmt::format("{} choices are more than this server takes at a time ({})", choices,
                                     admission_.most_of_key()));
  }
  const size_t key = authorized_key(exchange->request().authorization, options_.api_keys).value_or(0);
  std::optional<AdmissionTicket> ticket = admission_.enter(key, choices);
  if (!ticket) {
    ApiError error;
    error.status = 429;
    error.type = "rate_limit_error";
    error.code = "queue_full";
    error.message = fmt::format(
        "{} requests are being worked on, and this server takes {} ({} of one API key); try again later",
        admission_.taken(), admission_.limit(), admission_.most_of_key());
    error.retry_after_s = kRetryAfterSeconds;
    throw error;
  }
  prepare_schema(request.sampling.json_schema);
  std::vector<std::vector<int32_t>> prompts;
  size_t longest = 0;
  for (const Prompt& prompt : request.prompts) {
    prompts.push_back(engine_->tokenize(prompt, request.chat_options));
    longest = std::max(longest, prompts.back().size());
  }
  if (options_.api_keys.size() > 1) request.tenant = fmt::format("key {}", key);
  if (!request.max_tokens) request.max_tokens = default_max_tokens(request, static_cast<int64_t>(longest));
  if (!request.seed) request.seed = options_.random();
  AnswerHead head{.chat = request.chat,
                  .id = fmt::format("{}-{:016x}", request.chat ? "chatcmpl" : "cmpl", options_.random()),
                  .created = options_.unix_now(),
                  .model = options_.model_name};
  std::make_shared<Generation>(GenerationHost{.engine = *engine_,
                                              .loop = *loop_,
                                              .metrics = metrics_,
                                              .eta = eta_,
                                              .list = list_,
                                              .stopping = [this] { return draining_.load(); },
                                              .now = options_.now},
                               std::move(head), std::move(request), std::move(prompts), std::move(*ticket),
                               exchange)
      ->start();
}

}  // namespace longspan::server
