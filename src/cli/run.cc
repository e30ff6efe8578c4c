#include "cli/run.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>
#include <variant>

#include "cli/commands.h"
#include "cli/json_out.h"

namespace longspan::cli {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

// Standard output belongs to results: the log goes to standard error.
void set_up_log(const std::string& level) {
  if (!spdlog::get("longspan")) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("longspan", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  }
  spdlog::set_level(spdlog::level::from_str(level));
}

int dispatch(const CommandLine& line, Context& context) {
  const CommonOptions& common = line.common;
  return std::visit(
      Overloaded{
          [](std::monostate) { return kExitOk; },
          [&](const GenerateOptions& options) { return run_generate(common, options, context); },
          [&](const BatchOptions& options) { return run_batch(common, options, context); },
          [&](const PlanOptions& options) { return run_plan(common, options, context); },
          [&](const BenchOptions& options) { return run_bench(common, options, context); },
          [&](const EvalOptions& options) { return run_eval(common, options, context); },
      },
      line.command);
}

// One line, whatever the message holds.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

int report(const Error& error, bool json, Context& context) {
  context.out.clear();
  context.out.flush();
  context.err << "longspan: error: " << one_line(error.what()) << std::endl;
  if (json) {
    JsonObject body;
    body.set("code", to_string(error.code())).set("message", one_line(error.what()));
    context.out << JsonObject().set("error", body).str() << std::endl;
  }
  return exit_code(error.code());
}

}  // namespace

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kContextLength:
    case ErrorCode::kNotSupported:
      return kExitUsage;
    case ErrorCode::kUnreadable:
      return kExitUnreadable;
    case ErrorCode::kCapacity:
      return kExitCapacity;
    case ErrorCode::kRankLost:
      return kExitRankLost;
    case ErrorCode::kCancelled:
      return kExitInterrupted;
    case ErrorCode::kInternal:
      return kExitRequestFailed;
  }
  return kExitRequestFailed;
}

int run(const std::vector<std::string>& args, Context& context) {
  bool json = std::find(args.begin(), args.end(), "--json") != args.end();
  try {
    const CommandLine line = parse_command_line(args);
    json = line.common.json;
    if (!line.information.empty()) {
      context.out << line.information << std::flush;
      if (!context.out) throw Error(ErrorCode::kUnreadable, "can't write to standard output");
      return kExitOk;
    }
    for (const std::string& note : line.notes) context.err << "longspan: note: " << note << std::endl;
    set_up_log(line.common.log_level);
    const int code = dispatch(line, context);
    context.out.flush();
    if (!context.out) throw Error(ErrorCode::kUnreadable, "can't write to standard output");
    return code;
  } catch (const Error& e) {
    return report(e, json, context);
  } catch (const std::bad_alloc&) {
    return report(Error(ErrorCode::kCapacity, "out of memory"), json, context);
  } catch (const std::exception& e) {
    return report(Error(ErrorCode::kInternal, e.what()), json, context);
  }
}

}  // namespace longspan::cli
