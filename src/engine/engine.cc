#include <fmt/format.h>
#include <longspan/engine.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>

#include "checkpoint/checkpoint.h"
#include "device/engine_device.h"
#include "engine/active_request.h"
#include "engine/job_rules.h"
#include "engine/open.h"
#include "engine/rank_setup.h"
#include "engine/request_rules.h"
#include "engine/sampler.h"
#include "engine/step_runner.h"
#include "engine/together.h"
#include "engine/token_masks.h"
#include "schedule/scheduler.h"
#include "text/chat_template.h"
#include "text/prompt_tokens.h"
#include "text/tokenizer.h"

namespace longspan {
namespace {

constexpr const char* kTextFiles = "reading the tokenizer";

double steady_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(const EngineOptions& options, ModelConfig config, Checkpoint checkpoint, Tokenizer tokenizer,
             ChatTemplate chat_template, std::unique_ptr<Device> device, Clock now)
      : options_(options),
        config_(std::move(config)),
        tokenizer_(std::move(tokenizer)),
        chat_template_(chat_template),
        masks_(tokenizer_, config_.eos_token_ids),
        now_(std::move(now)),
        runner_(options_, config_, std::move(checkpoint), std::move(device)),
        context_length_(runner_.info().context_length),
        kv_({.num_pages = runner_.pages(),
             .owners = runner_.page_owners(),
             .page_size = options_.page_size,
             .prefix_cache = options_.prefix_cache}),
        scheduler_(kv_, {.max_running = options_.max_running_requests,
                         .max_tokens_per_step = options_.chunked_prefill_size < 0
                                                    ? std::numeric_limits<int64_t>::max()
                                                    : options_.chunked_prefill_size,
                         .page_size = options_.page_size,
                         .max_step_ms = options_.max_step_ms,
                         .foresees = runner_.prepares()}) {}

  RequestId submit(Request request) override;
  void prepare_schema(const std::string& json_schema) const override { masks_.prepare(json_schema); }
  void cancel(RequestId id) override;
  bool step() override;

  using Engine::tokenize;
  std::vector<int32_t> tokenize(const Prompt& prompt, const ChatOptions& chat) const override;
  std::string detokenize(const std::vector<int32_t>& token_ids) const override {
    return tokenizer_.decode(token_ids, /*skip_special=*/true);
  }
  std::string token_bytes(int32_t token_id) const override {
    return std::string(tokenizer_.token_bytes(token_id));
  }
  EngineInfo info() const override {
    EngineInfo info = runner_.info();
    info.thinks = chat_template_.thinks();
    info.opens_thinking = chat_template_.opens_thinking();
    return info;
  }
  HardwareLimits measure_limits() const override { return runner_.measure_limits(); }
  EngineStats stats() const override;
  std::vector<RequestStatus> requests() const override;
  void check_integrity() const override { scheduler_.check_integrity(); }

 private:
  // A request as submit left it: tokenised, or with the reason why it can't be.
  struct Arrival {
    std::unique_ptr<ActiveRequest> request;
    std::vector<int32_t> prompt;
    std::optional<Error> refusal;
  };
  struct Running {
    std::unique_ptr<ActiveRequest> request;
    Sequence* sequence;
  };

  bool take_inbox();
  void start(Arrival arrival);
  StepWants wants_of(const ScheduledStep& step) const;
  void advance(const ScheduledStep& step, size_t row, std::span<const int32_t> targets,
               const StepOutput& output, int64_t first_token);
  int32_t draw(ActiveRequest& request, const Sequence& sequence, const std::vector<float>& logits) const;
  void close(RequestId id);
  void fail(RequestId id, ErrorCode code, const std::string& message);
  [[noreturn]] void die(const Error& error);

  const EngineOptions options_;
  const ModelConfig config_;
  const Tokenizer tokenizer_;
  const ChatTemplate chat_template_;
  mutable TokenMasks masks_;  // a cache
  const Clock now_;
  StepRunner runner_;
  const int64_t context_length_;
  KvCache kv_;
  Scheduler scheduler_;
  std::map<RequestId, Running> running_;
  EngineStats counters_;
  std::optional<Error> dead_;

  std::mutex inbox_mutex_;  // guards the three below
  RequestId next_id_ = 1;
  std::vector<Arrival> arrivals_;
  std::vector<RequestId> cancellations_;
};

RequestId EngineImpl::submit(Request request) {
  Arrival arrival;
  std::unique_ptr<TokenMask> mask;
  try {
    check_sampling(request.sampling, config_.vocab_size);
    mask = masks_.make(request.sampling.json_schema);
    arrival.prompt = tokenize(request.prompt);
    check_prompt(arrival.prompt, config_.vocab_size, context_length_);
  } catch (const Error& error) {
    arrival.refusal = error;
  }
  const std::lock_guard lock(inbox_mutex_);
  const RequestId id = next_id_++;
  arrival.request = std::make_unique<ActiveRequest>(id, std::move(request), std::move(mask), now_(),
                                                    tokenizer_, options_.layout.cp);
  arrivals_.push_back(std::move(arrival));
  return id;
}

void EngineImpl::cancel(RequestId id) {
  const std::lock_guard lock(inbox_mutex_);
  cancellations_.push_back(id);
}

// Arrivals and cancellations under one lock, arrivals first: a request may be cancelled before its first
// step, and its cancellation would be lost if it were looked for among those that have started.
bool EngineImpl::take_inbox() {
  std::vector<Arrival> arrivals;
  std::vector<RequestId> cancelled;
  {
    const std::lock_guard lock(inbox_mutex_);
    arrivals.swap(arrivals_);
    cancelled.swap(cancellations_);
  }
  bool any = !arrivals.empty();
  for (Arrival& arrival : arrivals) start(std::move(arrival));
  for (const RequestId id : cancelled) {
    if (!running_.contains(id)) continue;
    fail(id, ErrorCode::kCancelled, "the request was cancelled");
    any = true;
  }
  return any;
}

void EngineImpl::start(Arrival arrival) {
  if (dead_) arrival.refusal = dead_;
  if (!arrival.refusal) {
    const int64_t prompt_len = std::ssize(arrival.prompt);
    const int64_t room = context_length_ - prompt_len;
    const auto new_tokens =
        static_cast<int32_t>(std::min<int64_t>(arrival.request->sampling().max_tokens, room));
    auto sequence = arrival.request->start(std::move(arrival.prompt), new_tokens);
    if (kv_.can_ever_fit(sequence->max_computed)) {
      Sequence& added = scheduler_.add(std::move(sequence));
      running_.emplace(added.id, Running{std::move(arrival.request), &added});
      return;
    }
    arrival.refusal = pool_too_small(prompt_len, new_tokens, kv_.pages_needed(sequence->max_computed),
                                     kv_.total_pages(), options_.page_size, options_.max_total_tokens > 0);
  }
  arrival.request->fail(arrival.refusal->code(), arrival.refusal->what());
}

void EngineImpl::close(RequestId id) {
  const auto found = running_.find(id);
  scheduler_.remove(*found->second.sequence);
  running_.erase(found);
}

void EngineImpl::fail(RequestId id, ErrorCode code, const std::string& message) {
  const auto request = std::move(running_.at(id).request);
  close(id);
  request->fail(code, message);
}

StepWants EngineImpl::wants_of(const ScheduledStep& step) const {
  StepWants wants;
  for (size_t row = 0; row < step.sequences.size(); ++row) {
    const ActiveRequest& request = *running_.at(step.sequences[row]->id).request;
    wants.logits.push_back(step.reaches_end(row) && request.wants_tokens());
  }
  const auto scored = [&](const Sequence* sequence) {
    return !sequence->decoding() && running_.at(sequence->id).request->sampling().prompt_logprobs;
  };
  if (std::none_of(step.sequences.begin(), step.sequences.end(), scored)) return wants;
  for (size_t row = 0; row < step.sequences.size(); ++row) {
    const Sequence& sequence = *step.sequences[row];
    for (int32_t i = 0; i < step.batch.rows[row].new_tokens; ++i) {
      const int32_t next = sequence.computed + i + 1;
      wants.score_targets.push_back(scored(&sequence) && next < sequence.prompt_len ? sequence.tokens[next]
                                                                                    : -1);
    }
  }
  return wants;
}

bool EngineImpl::step() {
  if (dead_) {
    take_inbox();
    throw Error(*dead_);
  }
  const bool worked = take_inbox();
  const double begin_ms = now_();
  const std::optional<ScheduledStep> step = scheduler_.next();
  if (!step) return worked;
  counters_.preemptions += std::ssize(step->preempted);
  for (const uint64_t id : step->preempted)
    spdlog::info("KV pages ran short: request {} gave its own back and will be computed again", id);

  for (const Sequence* sequence : step->sequences)
    running_.at(sequence->id).request->note_step_begin(*sequence, begin_ms);
  const StepWants wants = wants_of(*step);
  StepOutput output;
  try {
    output = runner_.run(step->batch, wants);
  } catch (const Error& error) {
    die(error);
  }
  ++counters_.steps;
  std::vector<char> was_prompt;
  for (const Sequence* sequence : step->sequences) was_prompt.push_back(!sequence->decoding());
  scheduler_.complete(*step);
  int64_t first_token = 0;
  for (size_t row = 0; row < step->sequences.size(); ++row) {
    const int32_t count = step->batch.rows[row].new_tokens;
    (was_prompt[row] ? counters_.prefill_tokens : counters_.decode_tokens) += count;
    if (was_prompt[row]) {
      const size_t cp = output.rank_tokens.size() / step->sequences.size();
      running_.at(step->sequences[row]->id)
          .request->note_prefill(*step->sequences[row], std::span(output.rank_tokens).subspan(row * cp, cp),
                                 now_());
    }
    advance(*step, row, wants.score_targets, output, first_token);
    first_token += count;
  }
  scheduler_.observe(*step, now_() - begin_ms);
  take_inbox();
  return true;
}

// The next token. Throws Error if the request's schema leaves none, or asks too much.
int32_t EngineImpl::draw(ActiveRequest& request, const Sequence& sequence,
                         const std::vector<float>& logits) const {
  std::vector<float> scratch;
  const std::span<const float> adjusted =
      adjusted_logits(logits, request.sampling(), sequence.tokens, sequence.prompt_len, scratch);
  TokenMask* const mask = request.mask();
  if (!mask) return sample(adjusted, request.sampling(), std::ssize(sequence.tokens));
  if (scratch.empty()) scratch.assign(adjusted.begin(), adjusted.end());
  if (!mask->apply(scratch))
    throw Error(ErrorCode::kNotSupported,
                "json_schema: no token of this model goes on from where the answer is");
  const int32_t token = sample(scratch, request.sampling(), std::ssize(sequence.tokens));
  mask->accept(token, tokenizer_.token_bytes(token));
  return token;
}

// Takes what a step computed for one row: prompt scores, and the next token where the row reached the end.
void EngineImpl::advance(const ScheduledStep& step, size_t row, std::span<const int32_t> targets,
                         const StepOutput& output, int64_t first_token) {
  Sequence& sequence = *step.sequences[row];
  ActiveRequest& request = *running_.at(sequence.id).request;
  const BatchRow& computed = step.batch.rows[row];
  for (int32_t i = 0; !targets.empty() && i < computed.new_tokens; ++i) {
    if (targets[first_token + i] < 0) continue;
    request.note_prompt_score(computed.prefix_len + i + 1, output.scores[first_token + i]);
  }
  if (sequence.computed < std::ssize(sequence.tokens)) return;

  bool done = true;
  if (request.wants_tokens()) {
    const std::vector<float>& logits = output.logits[row];
    int32_t token = 0;
    try {
      token = draw(request, sequence, logits);
    } catch (const Error& error) {
      return fail(sequence.id, error.code(), error.what());
    }
    const auto& ends = config_.eos_token_ids;
    const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
    done = request.accept(token, logits, is_end, now_());
    sequence.tokens.push_back(token);
  }
  if (!done) return;
  const auto finished = std::move(running_.at(sequence.id).request);
  close(sequence.id);
  finished->finish(now_());
}

void EngineImpl::die(const Error& error) {
  dead_ = error;
  auto lost = std::move(running_);
  running_.clear();
  for (auto& [id, entry] : lost) {
    scheduler_.remove(*entry.sequence);
    entry.request->fail(error.code(), error.what());
  }
  take_inbox();
  throw Error(error);
}

std::vector<int32_t> EngineImpl::tokenize(const Prompt& prompt, const ChatOptions& chat) const {
  return prompt_tokens(prompt, chat, tokenizer_, chat_template_);
}

EngineStats EngineImpl::stats() const {
  EngineStats stats = counters_;
  stats.prepared_steps = runner_.steps_prepared();
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.free_pages = kv_.free_pages();
  stats.cached_pages = kv_.cached_pages();
  stats.total_pages = kv_.total_pages();
  return stats;
}

std::vector<RequestStatus> EngineImpl::requests() const {
  std::vector<RequestStatus> all;
  for (const auto& [id, entry] : running_) {
    const Sequence& sequence = *entry.sequence;
    RequestStatus status{.id = id, .running = sequence.kv.has_value(), .prompt_tokens = sequence.prompt_len};
    status.processed_tokens = std::min(sequence.computed, sequence.prompt_len);
    status.new_tokens = static_cast<int32_t>(std::ssize(sequence.tokens)) - sequence.prompt_len;
    if (sequence.kv) {
      status.cached_tokens = sequence.cached_tokens;
      status.pages = std::ssize(sequence.kv->pages());
    }
    status.rank_tokens = entry.request->rank_tokens();
    all.push_back(status);
  }
  return all;
}

}  // namespace

std::unique_ptr<Engine> open_engine(const EngineOptions& options, std::unique_ptr<Device> device, Clock now) {
  Job* const job = options.job.get();
  ModelConfig config = read_config(options, device->ops().name());
  Checkpoint checkpoint = open_checkpoint(options, config);
  struct TextFiles {
    Tokenizer tokenizer;
    ChatTemplate chat_template;
  };
  TextFiles files = together(job, kTextFiles, [&] {
    return TextFiles{Tokenizer::load(options.model),
                     ChatTemplate::load(options.model, options.chat_template)};
  });
  return std::make_unique<EngineImpl>(options, std::move(config), std::move(checkpoint),
                                      std::move(files.tokenizer), files.chat_template, std::move(device),
                                      std::move(now));
}

// What only this process knows is told to the others before it ends.
void follow_engine(const EngineOptions& options, std::unique_ptr<Device> device) {
  Job& job = *options.job;
  const auto lose = [&](const char* what) {
    const std::string reason = fmt::format("rank {} failed: {}", job.rank(), what);
    job.abort(reason);
    throw Error(ErrorCode::kRankLost, reason);
  };
  try {
    const ModelConfig config = read_config(options, device->ops().name());
    Checkpoint checkpoint = open_checkpoint(options, config);
    agree(job, {}, kTextFiles);  // which rank 0 reads
    StepRunner(options, config, std::move(checkpoint), std::move(device)).follow();
  } catch (const AgreedError&) {
    throw;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kRankLost || error.code() == ErrorCode::kCancelled) throw;
    lose(error.what());
  } catch (const std::bad_alloc&) {
    lose("out of memory");
  } catch (const std::exception& error) {
    lose(error.what());
  }
}

namespace {

std::unique_ptr<Device> open_device(const EngineOptions& options) {
  Job* const job = options.job.get();
  const int32_t place = job ? place_on_host(*job) : 0;
  EngineOptions mine = options;
  if (options.hccl) mine.ascend.device += place;
  return together(job, "opening the device",
                  [&] { return make_device(mine, load_model_config(options.model).dtype); });
}

}  // namespace

std::unique_ptr<Engine> Engine::open(const EngineOptions& options) {
  if (options.job && options.job->rank() != 0)
    throw Error(ErrorCode::kUsage, "rank 0 of a job opens the engine; the others follow it");
  return open_engine(options, open_device(options), steady_ms);
}

Result Engine::generate(Request request) {
  std::optional<Result> result;
  request.on_finish = [&, inner = std::move(request.on_finish)](const Result& done) {
    result = done;
    if (inner) inner(done);
  };
  submit(std::move(request));
  while (!result) step();
  if (result->error_code) throw Error(*result->error_code, result->error_message);
  return *result;
}

void Engine::follow(const EngineOptions& options) {
  if (!options.job || options.job->rank() == 0)
    throw Error(ErrorCode::kUsage, "an engine is followed by the processes of a job other than rank 0");
  follow_engine(options, open_device(options));
}

}  // namespace longspan
