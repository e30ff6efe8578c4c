#include "cli/eval.h"

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/progress.h"
#include "cli/pump.h"
#include "server/remote_engine.h"

namespace longspan::cli {

EvalScore ask_questions(const EvalRun& run, const std::string& label, size_t count,
                        const std::function<EvalQuestion(size_t)>& make,
                        const std::function<bool(const std::string&, const std::string&)>& is_right) {
  EvalScore score;
  std::vector<std::string> expected(count);
  ProgressPace pace(run.context.now());
  const auto make_request = [&](size_t i) {
    EvalQuestion question = make(i);
    expected[i] = std::move(question.expected);
    return std::move(question.request);
  };
  const auto done = [&](size_t i, const Result& result) {
    ++score.total;
    if (result.finish_reason == FinishReason::kError) {
      ++score.failed;
      score.failure = result.error_message;
    } else {
      score.correct += is_right(result.text, expected[i]);
    }
  };
  const auto show_progress = [&] {
    if (run.common.quiet || !pace.due(run.context.now())) return;
    run.context.err << fmt::format("{}: {} of {} done, {} right", label, score.total, count, score.correct)
                    << std::endl;
  };
  run_requests(run.engine, count, run.parallel, run.context, make_request, done, show_progress);
  return score;
}

int run_eval(const CommonOptions& common, const EvalOptions& options, Context& context) {
  const int64_t parallel = options.parallel > 0 ? options.parallel : common.engine.max_running_requests;
  const auto engine = options.url.empty()
                          ? context.open_engine(common.engine)
                          : server::open_remote_engine({.url = options.url,
                                                        .model_name = options.served_model,
                                                        .api_key = options.api_key,
                                                        .model_folder = common.engine.model,
                                                        .chat_template = common.engine.chat_template,
                                                        .parallel = static_cast<size_t>(parallel)});
  context.catch_interrupts();
  const EvalRun run{common, options, context, *engine, static_cast<size_t>(parallel)};
  JsonObject report;
  report.set("task", options.task);
  const double started = context.now();
  int64_t failed = 0;
  if (options.task == "gsm8k") {
    failed = eval_gsm8k(run, report);
  } else if (options.task == "recall") {
    failed = eval_recall(run, report);
  } else {
    failed = eval_ppl(run, report);
  }
  const double seconds = context.now() - started;
  const int64_t peak_memory = context.peak_memory_bytes();
  if (!common.quiet) {
    context.err << fmt::format("{:.1f} s, peak memory {}, {}", seconds, bytes_text(peak_memory),
                               device_text(engine->info(), common.engine.layout))
                << std::endl;
  }
  if (common.json) {
    report.set("failed", failed)
        .set("seconds", seconds)
        .set("peak_memory_bytes", peak_memory)
        .set("engine", engine_json(engine->info(), common.engine.layout));
    context.out << report.str() << std::endl;
  }
  return failed > 0 ? kExitRequestFailed : kExitOk;
}

}  // namespace longspan::cli
