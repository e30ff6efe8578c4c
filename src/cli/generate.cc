#include <fmt/format.h>

#include "base/utf8.h"
#include "cli/batch_format.h"
#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/input_file.h"
#include "cli/progress.h"
#include "cli/self_check.h"

namespace longspan::cli {
namespace {

std::string read_prompt(const GenerateOptions& options, const Context& context) {
  const std::string path = options.stdin_mark.empty() ? options.file : options.stdin_mark;
  std::string name = "the prompt";
  std::string text;
  if (options.prompt) {
    text = *options.prompt;
  } else {
    InputFile file(path, context.in_fd);
    name = file.name();
    text = file.read_all(context.interrupted);
  }
  if (const size_t bad = first_invalid_utf8(text); bad != std::string::npos) {
    throw Error(options.prompt ? ErrorCode::kUsage : ErrorCode::kUnreadable,
                fmt::format("{}: byte {} (0x{:02x}) is not UTF-8 text", name, bad,
                            static_cast<unsigned char>(text[bad])));
  }
  if (text.empty()) throw Error(ErrorCode::kUsage, fmt::format("{} is empty", name));
  return text;
}

Prompt make_prompt(const GenerateOptions& options, std::string text) {
  if (!options.chat) return text;
  std::vector<Message> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  messages.push_back({"user", std::move(text)});
  return messages;
}

std::string closing_line(const Result& result, const EngineInfo& info, const LayoutOptions& layout,
                         int64_t peak_memory) {
  const int64_t decoded = static_cast<int64_t>(result.token_ids.size()) - 1;
  std::string line =
      fmt::format("TTFT {:.2f} s, prefill {} tokens", result.ttft_ms / 1000, result.prompt_tokens);
  if (result.cached_tokens > 0) line += fmt::format(" ({} cached)", result.cached_tokens);
  line += " " + rate_text(per_second(result.prompt_tokens - result.cached_tokens, result.prefill_ms));
  line += fmt::format(", decode {} tokens", result.token_ids.size());
  if (decoded > 0) line += " " + rate_text(per_second(decoded, result.decode_ms));
  return line + fmt::format(", peak memory {}, {}", bytes_text(peak_memory), device_text(info, layout));
}

/// Runs the request to its end; an interrupt or a closed standard output cancels it.
Result run_to_end(Engine& engine, Request request, Context& context) {
  std::optional<Result> result;
  request.on_finish = [&](const Result& finished) { result = finished; };
  const RequestId id = engine.submit(std::move(request));
  while (!result) {
    if (context.interrupted() || !context.out) engine.cancel(id);
    if (!engine.step() && !result)
      throw Error(ErrorCode::kInternal, "the engine stopped before the request's end");
  }
  return *result;
}

}  // namespace

int run_generate(const CommonOptions& common, const GenerateOptions& options, Context& context) {
  Request request;
  request.prompt = make_prompt(options, read_prompt(options, context));
  EngineOptions engine_options = common.engine;
  SelfCheck check(options.self_check, engine_options, context);
  const bool checked = check.next();
  request.sampling = checked ? SelfCheck::with_logprobs(options.sampling) : options.sampling;
  const Prompt prompt = checked ? request.prompt : Prompt();

  const auto engine = context.open_engine(engine_options);
  PrefillProgress progress(context.err, context.err_is_terminal, context.now);
  if (!common.quiet) request.on_progress = [&](const Progress& p) { progress.update(p); };
  bool streamed = false;
  request.on_token = [&](int32_t, const std::string& delta) {
    progress.clear();
    streamed = true;
    if (!common.json) context.out << delta << std::flush;
  };
  context.catch_interrupts();
  const Result result = run_to_end(*engine, std::move(request), context);
  progress.clear();
  if (!common.json && (streamed || !result.error_code)) context.out << "\n" << std::flush;
  if (!context.out) throw Error(ErrorCode::kUnreadable, "can't write to standard output");
  if (result.error_code) {
    throw Error(*result.error_code,
                result.error_code == ErrorCode::kCancelled ? "interrupted" : result.error_message);
  }

  if (checked) check.compare(prompt, result);
  const int64_t peak_memory = context.peak_memory_bytes();
  if (!common.quiet) {
    context.err << closing_line(result, engine->info(), common.engine.layout, peak_memory) << std::endl;
    if (checked) context.err << check.text() << std::endl;
  }
  if (common.json) {
    JsonObject object;
    set_result(object, options.sampling, result);
    object.set("peak_memory_bytes", peak_memory)
        .set("engine", engine_json(engine->info(), common.engine.layout));
    if (checked) object.set("self_check_largest_difference", check.largest_difference());
    context.out << object.str() << std::endl;
  }
  return kExitOk;
}

}  // namespace longspan::cli
