#include "cli/run.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <variant>

#include "cli/commands.h"
#include "cli/json_out.h"
#include "cli/serving.h"

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

// HCCL reads its time limit from the environment: whole seconds, a collective's wait for the others.
void limit_collectives(double comm_timeout_s) {
  const auto seconds = static_cast<int64_t>(std::ceil(comm_timeout_s));
  setenv("HCCL_EXEC_TIMEOUT", std::to_string(seconds).c_str(), /*overwrite=*/0);
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
          [&](const ServeOptions& options) { return run_serve(common, options, context); },
          [&](const BenchServeOptions& options) { return run_bench_serve(common, options, context); },
          [&](const DoctorOptions& options) { return run_doctor(common, options, context); },
      },
      line.command);
}

// `serve` over processes that nobody has started yet. Ranks with cards may be threads as well: there a flag
// of processes asks for them.
bool starts_ranks(const CommandLine& line, const Context& context) {
  const auto* serve = std::get_if<ServeOptions>(&line.command);
  if (!serve || context.launched || !context.front.empty()) return false;
  return line.common.comm == "mpi" || !serve->launcher.empty() || serve->restarts > 0;
}

// A signal ends a job: it comes from a launcher that has seen a process die. But for servers, which are told
// to stop by signals, unless a front does that in another way.
std::shared_ptr<Job> join(const CommandLine& line, const Context& context) {
  const bool drains = std::holds_alternative<ServeOptions>(line.command) && context.front.empty();
  return context.join_mpi(line.common.engine.comm_timeout_s,
                          drains ? [] { return false; } : context.interrupted);
}

// What a process does whose rank is not 0: it takes part, engine by engine, and says nothing.
int follow(const CommandLine& line, Context& context) {
  EngineOptions options = line.common.engine;
  const auto* bench = std::get_if<BenchOptions>(&line.command);
  std::vector<int64_t> cp_list = bench ? bench->cp : std::vector<int64_t>();
  if (cp_list.empty()) cp_list = {options.layout.cp};
  try {
    if (std::holds_alternative<ServeOptions>(line.command))
      options.model = served_model(options.model, context);
    for (const int64_t cp : cp_list) {
      options.layout.cp = static_cast<int32_t>(cp);
      context.follow(options);
    }
  } catch (const Error& error) {
    // Rank 0 tells what went wrong, wherever it did; if it left without an engine there is nothing to do.
    if (error.code() == ErrorCode::kRankLost) throw;
    return error.code() == ErrorCode::kCancelled ? kExitOk : exit_code(error.code());
  }
  return kExitOk;
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
  // In one piece: several processes may write here.
  context.err << "longspan: error: " + one_line(error.what()) + "\n" << std::flush;
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
  std::shared_ptr<Job> job;  // outlives the report of an error: to leave it may take a while
  bool follows = false;
  const auto fail = [&](const Error& error) { return report(error, json && !follows, context); };
  try {
    CommandLine line = parse_command_line(args);
    json = line.common.json;
    if (!line.information.empty()) {
      context.out << line.information << std::flush;
      if (!context.out) throw Error(ErrorCode::kUnreadable, "can't write to standard output");
      return kExitOk;
    }
    set_up_log(line.common.log_level);
    if (line.common.engine.hccl) limit_collectives(line.common.engine.comm_timeout_s);
    if (starts_ranks(line, context))
      return run_front(line.common, std::get<ServeOptions>(line.command), args, context);
    if (line.common.in_job && !std::holds_alternative<PlanOptions>(line.command)) {
      context.catch_interrupts();  // a signal must not end one process before it has said so to the others
      job = line.common.engine.job = join(line, context);
      follows = place_in(*job).rank != 0;
    }
    for (const std::string& note : line.notes)
      if (!follows) context.err << "longspan: note: " << note << std::endl;
    const int code = follows ? follow(line, context) : dispatch(line, context);
    context.out.flush();
    if (!context.out) throw Error(ErrorCode::kUnreadable, "can't write to standard output");
    if (job) leave(*job);
    return code;
  } catch (const Error& e) {
    return fail(e);
  } catch (const std::bad_alloc&) {
    return fail(Error(ErrorCode::kCapacity, "out of memory"));
  } catch (const std::exception& e) {
    return fail(Error(ErrorCode::kInternal, e.what()));
  }
}

}  // namespace longspan::cli
