#include "server/serve.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <mutex>
#include <random>

#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/model_cost.h"

namespace longspan::cli {
namespace {

constexpr const char* kModelInTheBox = "models/recall-moe";

std::filesystem::path find_model(const std::filesystem::path& executable) {
  const auto above = executable.parent_path().parent_path();
  const std::filesystem::path places[] = {above / "share" / "longspan" / kModelInTheBox,
                                          above / kModelInTheBox, kModelInTheBox};
  for (const auto& place : places) {
    if (std::filesystem::is_directory(place)) return place;
  }
  throw Error(ErrorCode::kUsage,
              "-m is missing, and the model that comes along is not there: which model folder?");
}

std::string name_of(const std::string& folder) {
  const auto path = std::filesystem::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// By operations; what the machine makes of them is learned from the first chunks.
double pair_work(const std::string& folder) {
  const CostShape shape = cost_shape(load_model_config(folder), Layout{});
  return attention_flops_per_pair(shape) / linear_flops_per_row(shape);
}

// A connection is a descriptor: the usual soft limit of 1024 is too few.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int run_serve(const CommonOptions& common, const ServeOptions& options, Context& context) {
  EngineOptions engine_options = common.engine;
  if (engine_options.model.empty()) engine_options.model = find_model(context.executable).string();
  engine_options.max_step_ms = options.max_step_ms;
  raise_descriptor_limit();

  server::ServeOptions serve_options;
  serve_options.address = {options.host, static_cast<uint16_t>(options.port)};
  serve_options.model_name = options.model_name.empty() ? name_of(engine_options.model) : options.model_name;
  serve_options.api_keys = options.api_keys;
  serve_options.tls_cert = options.tls_cert;
  serve_options.tls_key = options.tls_key;
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
  process.told_to_stop = context.interrupted;
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
    const bool v6 = options.host.find(':') != std::string::npos;
    say(fmt::format("listening at {}://{}{}{}:{}", options.tls_cert.empty() ? "http" : "https", v6 ? "[" : "",
                    options.host, v6 ? "]" : "", port));
  };
  process.on_ready = [&](const Engine& engine) {
    context.catch_interrupts();
    say(fmt::format("ready: {}, {}, {} tokens of KV", serve_options.model_name,
                    device_text(engine.info(), engine_options.layout), engine.info().kv_tokens));
  };
  process.on_drain = [&] { say("stopping: no new requests; those under way are answered"); };
  server::serve(serve_options, engine_options.model, process);
  return kExitOk;
}

}  // namespace longspan::cli
