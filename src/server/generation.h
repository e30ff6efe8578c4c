#pragma once

#include <longspan/engine.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/admission.h"
#include "server/api_format.h"
#include "server/api_request.h"
#include "server/engine_loop.h"
#include "server/generation_list.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/prefill_eta.h"
#include "server/think_splitter.h"

namespace longspan::server {

/// What all generations of a server share.
struct GenerationHost {
  const Engine& engine;
  EngineLoop& loop;
  Metrics& metrics;
  PrefillEta& eta;
  GenerationList& list;
  std::function<bool()> stopping;  // cancelled requests get status 503 then
  std::function<double()> now;     // seconds on a steady clock
};

/// One API request: its choices run as requests of the engine, and their results add up to the answer. A
/// client that goes cancels what runs. The first choice of a prompt computes it, the others wait for that and
/// find it in the prefix tree.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  /// `prompts` [request.prompts.size()]: token ids. `ticket`: for all choices. request.seed and max_tokens
  /// are set.
  Generation(const GenerationHost& host, AnswerHead head, GenerationRequest request,
             std::vector<std::vector<int32_t>> prompts, AdmissionTicket ticket,
             std::shared_ptr<Exchange> exchange);

  ~Generation();

  /// Once.
  void start();
  /// As if the client had gone, but it is told.
  void cancel();
  /// One object for each choice that has not ended; `statuses`: of the engine's requests.
  OrderedJson list(const std::vector<RequestStatus>& statuses);

 private:
  struct Choice {
    explicit Choice(const Engine& engine) : completion_logprobs(engine) {}

    RequestId id = 0;
    bool submitted = false, done = false;
    Result result;
    Progress progress;
    std::optional<double> last_token_s;
    std::optional<ThinkSplitter> splitter;  // of a chat whose model thinks
    std::string reasoning, content;         // of a chat, so far
    CompletionLogprobs completion_logprobs;
    OrderedJson chat_logprobs = OrderedJson::array();  // not sent yet
  };

  size_t prompt_of(size_t choice) const { return choice / static_cast<size_t>(request_.n); }
  void submit(size_t choice);
  void submit_others(size_t choice);
  void cancel_all();

  void on_gone();
  void on_progress(size_t choice, const Progress& progress);
  void on_logprob(size_t choice, const TokenLogprob& token);
  void on_token(size_t choice, const std::string& text);
  void on_finish(size_t choice, const Result& result);

  void begin_stream();
  void send_progress(size_t choice);
  void take_chat_text(size_t choice, ThinkSplitter::Parts parts);
  void send_chunk(OrderedJson choices, OrderedJson usage);
  void fail(const Result& result);
  void respond();
  OrderedJson choice_json(size_t choice);
  OrderedJson delta_json(size_t choice, OrderedJson delta, OrderedJson finish_reason);
  OrderedJson take_logprobs(size_t choice);
  std::string prompt_text(size_t prompt) const;
  Usage usage() const;

  const GenerationHost host_;
  const AnswerHead head_;
  const GenerationRequest request_;
  const std::vector<std::vector<int32_t>> prompts_;
  const std::shared_ptr<Exchange> exchange_;

  std::mutex mutex_;  // guards what follows
  AdmissionTicket ticket_;
  std::vector<Choice> choices_;
  size_t done_ = 0;
  bool streaming_ = false, over_ = false;
};

}  // namespace longspan::server
