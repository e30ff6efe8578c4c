#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "cli/batch_format.h"
#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/input_file.h"
#include "cli/output_file.h"
#include "cli/progress.h"
#include "cli/self_check.h"

namespace longspan::cli {
namespace {

constexpr int kIdleWaitMs = 100;  // how long to wait for a line when nothing runs

/// A line of the input whose output line has not been written yet.
struct Pending {
  int64_t line = 0;  // of the input, from 1
  std::string id;
  SamplingParams sampling;               // as asked for
  std::optional<Prompt> checked_prompt;  // with the result below: what the self-check compares
  std::optional<Result> checked_result;
  RequestId request = 0;
  bool done = false;
  std::string output;
};

struct Totals {
  int64_t requests = 0, failed = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

/// Reads lines while requests run, a bounded number ahead, and writes results in input order.
class BatchRun {
 public:
  BatchRun(InputFile& input, OutputFile& output, SelfCheck& check, const CommonOptions& common,
           Context& context)
      : reader_(input, kMaxBatchLine), output_(output), check_(check), common_(common), context_(context) {
    max_running_ = static_cast<size_t>(common.engine.max_running_requests);
  }

  /// False if it was interrupted: then what had not finished has a "cancelled" line. An Error that ends the
  /// engine is thrown again after every line has its output.
  bool execute(Engine& engine) {
    started_ = context_.now();
    pace_ = ProgressPace(started_);
    try {
      while (!context_.interrupted()) {
        read_ahead(engine);
        if (running_ > 0) {
          step(engine);
        } else if (common_.engine.job) {
          require_alive(*common_.engine.job);
        }
        write_finished();
        show_progress();
        if (at_end_ && pending_.empty()) return true;
      }
      for (const Pending& line : pending_) {
        if (!line.done) engine.cancel(line.request);
      }
      while (running_ > 0) step(engine);
    } catch (const Error& e) {
      if (output_failed_) throw;
      fail_the_rest(e.code(), e.what());
      throw;
    }
    fail_the_rest(ErrorCode::kCancelled, "interrupted");
    return false;
  }

  const Totals& totals() const { return totals_; }
  double seconds() const { return context_.now() - started_; }

 private:
  void step(Engine& engine) {
    if (!engine.step() && running_ > 0) {
      throw Error(ErrorCode::kInternal,
                  fmt::format("the engine stopped with {} requests unfinished", running_));
    }
  }

  // Twice the rows of a batch keep it full; the larger bound is on results that wait for an earlier line.
  bool has_room() const { return running_ < 2 * max_running_ && pending_.size() < 64 * max_running_; }

  void read_ahead(Engine& engine) {
    while (!at_end_ && has_room()) {
      const int wait = running_ == 0 && (pending_.empty() || !pending_.front().done) ? kIdleWaitMs : 0;
      std::optional<BatchLine> line = next_line(wait);
      if (!line) return;
      submit(engine, std::move(*line));
    }
  }

  std::optional<BatchLine> next_line(int wait_ms) {
    std::string text;
    for (;;) {
      const LineReader::Status status = reader_.next(text, wait_ms);
      at_end_ = status == LineReader::Status::kEnd;
      if (at_end_ || status == LineReader::Status::kNotYet) return std::nullopt;
      ++line_number_;
      if (line_number_ == 1 && text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
      if (status == LineReader::Status::kTooLong) {
        BatchLine line;
        line.id = std::to_string(line_number_);
        line.error = Error(ErrorCode::kInvalidRequest,
                           fmt::format("line {}: longer than {} MiB", line_number_, kMaxBatchLine >> 20));
        return line;
      }
      if (!is_blank(text)) return parse_batch_line(text, line_number_);
    }
  }

  void submit(Engine& engine, BatchLine line) {
    ++totals_.requests;
    Pending& pending = pending_.emplace_back();
    pending.id = line.id;
    pending.line = line_number_;
    if (line.error) return fail(pending, line.error->code(), line.error->what());
    pending.sampling = line.request.sampling;
    if (check_.next()) {
      pending.checked_prompt = line.request.prompt;
      line.request.sampling = SelfCheck::with_logprobs(line.request.sampling);
    }
    line.request.on_finish = [this, &pending](const Result& result) { finish(pending, result); };
    ++running_;
    pending.request = engine.submit(std::move(line.request));
  }

  void finish(Pending& pending, const Result& result) {
    if (stopped_) return;  // the line has its output already
    --running_;
    totals_.failed += result.finish_reason == FinishReason::kError;
    totals_.prompt_tokens += result.prompt_tokens;
    totals_.cached_tokens += result.cached_tokens;
    totals_.completion_tokens += static_cast<int64_t>(result.token_ids.size());
    pending.output = result.error_code
                         ? format_batch_result(pending.id, pending.sampling, located(pending, result))
                         : format_batch_result(pending.id, pending.sampling, result);
    pending.done = true;
    if (pending.checked_prompt) pending.checked_result = result;
  }

  // A request that breaks a rule names its line, as a line that can't be read does.
  static Result located(const Pending& pending, Result result) {
    const auto code = result.error_code;
    if (code == ErrorCode::kInvalidRequest || code == ErrorCode::kContextLength ||
        code == ErrorCode::kCapacity)
      result.error_message = fmt::format("line {}: {}", pending.line, result.error_message);
    return result;
  }

  void fail(Pending& pending, ErrorCode code, const std::string& message) {
    ++totals_.failed;
    pending.output = format_batch_error(pending.id, code, message);
    pending.done = true;
  }

  void write_finished() {
    while (!pending_.empty() && pending_.front().done) {
      output_failed_ = true;
      output_.write_line(pending_.front().output);
      output_failed_ = false;
      if (pending_.front().checked_result) {
        check_.compare(*pending_.front().checked_prompt, *pending_.front().checked_result);
      }
      pending_.pop_front();
    }
  }

  // Gives every line that has no result yet this error, also those that can be read without waiting.
  void fail_the_rest(ErrorCode code, const std::string& message) {
    for (Pending& line : pending_) {
      if (!line.done) fail(line, code, message);
    }
    running_ = 0;
    stopped_ = true;
    write_finished();
    while (!at_end_) {
      std::optional<BatchLine> line = next_line(0);
      if (!line) break;
      ++totals_.requests;
      Pending& pending = pending_.emplace_back();
      pending.id = line->id;
      fail(pending, line->error ? line->error->code() : code, line->error ? line->error->what() : message);
      write_finished();
    }
  }

  void show_progress() {
    if (common_.quiet || !pace_.due(context_.now())) return;
    context_.err << fmt::format("batch: {} of {} requests read so far done, {} failed",
                                totals_.requests - static_cast<int64_t>(running_), totals_.requests,
                                totals_.failed)
                 << std::endl;
  }

  LineReader reader_;
  OutputFile& output_;
  SelfCheck& check_;
  const CommonOptions& common_;
  Context& context_;
  size_t max_running_ = 0;

  std::deque<Pending> pending_;  // in input order; references stay valid until a line is written
  size_t running_ = 0;           // submitted and not finished
  int64_t line_number_ = 0;
  bool at_end_ = false;
  bool output_failed_ = false;
  bool stopped_ = false;
  Totals totals_;
  double started_ = 0;  // seconds
  ProgressPace pace_{0};
};

void report(const BatchRun& run, bool completed, const SelfCheck& check, const Engine& engine,
            const CommonOptions& common, Context& context) {
  const Totals& totals = run.totals();
  const double seconds = run.seconds();
  const int64_t peak_memory = context.peak_memory_bytes();
  if (!common.quiet) {
    context.err
        << fmt::format(
               "batch: {} requests, {} failed, {} prompt tokens ({} cached), {} new tokens, {:.2f} s, "
               "{} in all, peak memory {}, {}",
               totals.requests, totals.failed, totals.prompt_tokens, totals.cached_tokens,
               totals.completion_tokens, seconds,
               rate_text(per_second(totals.prompt_tokens - totals.cached_tokens + totals.completion_tokens,
                                    seconds * 1000)),
               bytes_text(peak_memory), device_text(engine.info(), common.engine.layout))
        << std::endl;
    if (check.enabled()) context.err << check.text() << std::endl;
  }
  if (common.json) {
    JsonObject object;
    object.set("completed", completed)
        .set("requests", totals.requests)
        .set("failed", totals.failed)
        .set("prompt_tokens", totals.prompt_tokens)
        .set("cached_tokens", totals.cached_tokens)
        .set("completion_tokens", totals.completion_tokens)
        .set("seconds", seconds)
        .set("peak_memory_bytes", peak_memory)
        .set("engine", engine_json(engine.info(), common.engine.layout));
    if (check.enabled()) {
      object.set("self_check_requests", check.requests())
          .set("self_check_largest_difference", check.largest_difference());
    }
    context.out << object.str() << std::endl;
  }
}

}  // namespace

int run_batch(const CommonOptions& common, const BatchOptions& options, Context& context) {
  InputFile input(options.input, context.in_fd);
  OutputFile output(options.output, context.out, input.fd());
  EngineOptions engine_options = common.engine;
  SelfCheck check(options.self_check, engine_options, context);
  BatchRun run(input, output, check, common, context);  // outlives the engine, whose callbacks point into it
  const auto engine = context.open_engine(engine_options);
  output.truncate();  // only now that there will be results
  context.catch_interrupts();
  const bool completed = run.execute(*engine);
  report(run, completed, check, *engine, common, context);
  if (!completed) {
    context.err << "longspan: error: interrupted" << std::endl;
    return kExitInterrupted;
  }
  return run.totals().failed > 0 ? kExitRequestFailed : kExitOk;
}

}  // namespace longspan::cli
