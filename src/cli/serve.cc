#include "server/serve.h"

#include <fmt/format.h>
#include <longspan/job.h>

#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>
#include <random>

#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/model_cost.h"
#include "cli/process.h"
#include "cli/serving.h"
#include "server/front.h"
#include "server/rank_link.h"

namespace longspan::cli {
namespace {

constexpr const char* kModelInTheBox = "models/recall-moe";

std::string name_of(const std::string& folder) {
  const auto path = std::filesystem::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// By operations; what the machine makes of them is learned from the first chunks.
double pair_work(const std::string& folder) {
  const CostShape shape = cost_shape(load_model_config(folder), Layout{});
  return attention_flops_per_pair(shape) / linear_flops_per_row(shape);
}

std::optional<Error> loss_of(const std::shared_ptr<Job>& job) {
  try {
    if (job) require_alive(*job);
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  }
}

// `link`: to the front of this process' job; null: there is none, and the server listens for itself.
void serve_here(const CommonOptions& common, const ServeOptions& options, server::RankLink* link,
                Context& context) {
  EngineOptions engine_options = common.engine;
  engine_options.model = served_model(engine_options.model, context);
  engine_options.max_step_ms = options.max_step_ms;
  raise_descriptor_limit();

  server::ServeOptions serve_options;
  serve_options.address = {options.host, static_cast<uint16_t>(options.port)};
  if (link) serve_options.address.socket_path = server::front_http_path(context.front);
  serve_options.model_name = options.model_name.empty() ? name_of(engine_options.model) : options.model_name;
  serve_options.api_keys = options.api_keys;
  if (!link) {
    serve_options.tls_cert = options.tls_cert;
    serve_options.tls_key = options.tls_key;
  }
  serve_options.max_requests = int64_t{engine_options.max_running_requests} + options.max_queued;
  serve_options.pair_work = pair_work(engine_options.model);
  serve_options.drain_timeout_s = options.drain_timeout_s;
  serve_options.check_integrity = options.check_integrity;

  const auto say = [&](const std::string& text) {
    if (!common.quiet) context.err << text << std::endl;
  };
  std::mutex random_mutex;
  std::random_device device;
  server::ServeProcess process;
  process.open_engine = [&] { return context.open_engine(engine_options); };
  bool front_says_so = false;
  process.told_to_stop = [&] {
    if (link)
      for (const std::string& line : link->hear()) front_says_so |= line == server::kDrain;
    return front_says_so || (link && link->over()) || context.interrupted();
  };
  process.lost = [&] { return loss_of(engine_options.job); };
  process.random = [&] {
    const std::lock_guard lock(random_mutex);
    return uint64_t{device()} << 32 | device();
  };
  process.now = context.now;
  process.unix_now = [] {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  process.on_listening = [&](uint16_t port) {
    if (link) return link->say(server::kRankListens);
    say(listening_text(options, port));
  };
  process.on_ready = [&](const Engine& engine) {
    context.catch_interrupts();
    const std::string ready =
        fmt::format("{}: {}, {}, {} tokens of KV", server::kRankReady, serve_options.model_name,
                    device_text(engine.info(), engine_options.layout), engine.info().kv_tokens);
    link ? link->say(ready) : say(ready);
  };
  process.on_drain = [&] {
    if (!link) return say(kStopping);
    if (front_says_so || link->over()) return;
    const Error ended(ErrorCode::kRankLost,
                      "the launcher told rank 0 to stop: most likely another rank has ended");
    link->say(server::failure_line(ended));
  };
  server::serve(serve_options, engine_options.model, process);
}

}  // namespace

std::string listening_text(const ServeOptions& options, uint16_t port) {
  const bool v6 = options.host.find(':') != std::string::npos;
  return fmt::format("listening at {}://{}{}{}:{}", options.tls_cert.empty() ? "http" : "https",
                     v6 ? "[" : "", options.host, v6 ? "]" : "", port);
}

std::string served_model(const std::string& model, const Context& context) {
  if (!model.empty()) return model;
  const auto above = context.executable.parent_path().parent_path();
  const std::filesystem::path places[] = {above / "share" / "longspan" / kModelInTheBox,
                                          above / kModelInTheBox, kModelInTheBox};
  for (const auto& place : places) {
    if (std::filesystem::is_directory(place)) return place.string();
  }
  throw Error(ErrorCode::kUsage,
              "-m is missing, and the model that comes along is not there: which model folder?");
}

int run_serve(const CommonOptions& common, const ServeOptions& options, Context& context) {
  if (context.front.empty()) {
    serve_here(common, options, nullptr, context);
    return kExitOk;
  }
  auto link = server::RankLink::connect(server::front_link_path(context.front));
  int code = kExitOk;
  try {
    serve_here(common, options, &link, context);
  } catch (const Error& error) {  // whoever started the front reads it there
    link.say(server::failure_line(error));
    code = exit_code(error.code());
  }
  link.hear();
  std::error_code ignored;
  if (link.over()) std::filesystem::remove_all(context.front, ignored);  // the front can't any more
  return code;
}

}  // namespace longspan::cli
