#include "cli/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <random>

#include "base/check.h"
#include "cli/commands.h"
#include "cli/engine_report.h"
#include "cli/json_out.h"
#include "cli/model_cost.h"
#include "plan/cp_plan.h"

namespace longspan::cli {

Spread spread_of(std::vector<double> samples) {
  check(!samples.empty(), "a spread needs samples");
  std::sort(samples.begin(), samples.end());
  const size_t n = samples.size();
  return {samples.front(), (samples[(n - 1) / 2] + samples[n / 2]) / 2, samples.back()};
}

namespace {

struct Case {
  int64_t cp = 1, prompt_tokens = 0, batch = 1;
};

struct Measured {
  Case setting;
  Spread prefill_ms;                // all prompts, submit to the last first token
  double prefill_flops = 0;         // of all prompts, by the config's arithmetic
  std::optional<Spread> decode_ms;  // one step, all rows
  double decode_bytes = 0;  // that one step must read: weights of the chosen experts, and KV; 0: unknown
};

class Bench {
 public:
  Bench(const BenchOptions& options, const EngineOptions& engine, const ModelConfig& config, Context& context)
      : options_(options),
        config_(config),
        context_(context),
        knows_all_bytes_(!engine.job),
        random_(options.seed) {
    chunk_ =
        engine.chunked_prefill_size > 0 ? engine.chunked_prefill_size : std::numeric_limits<int32_t>::max();
  }

  Measured measure(Engine& engine, const Case& setting) {
    Measured measured{
        .setting = setting, .prefill_ms = {}, .prefill_flops = prefill_flops(setting), .decode_ms = {}};
    // The decode run comes first: it also warms up.
    const std::vector<double> steps = decode_steps(engine, setting);
    if (!steps.empty()) {
      measured.decode_ms = spread_of(steps);
      measured.decode_bytes = decode_bytes(engine.info(), setting);
    }
    std::vector<double> prefills;
    for (int32_t i = 0; i < options_.repeats; ++i) prefills.push_back(prefill(engine, setting));
    measured.prefill_ms = spread_of(prefills);
    return measured;
  }

 private:
  // Submits the case's prompts; `first_tokens` counts those that have got a token.
  std::vector<RequestId> submit(Engine& engine, const Case& setting, int32_t max_tokens,
                                int64_t& first_tokens, int64_t& finished) {
    std::vector<RequestId> ids;
    for (int64_t row = 0; row < setting.batch; ++row) {
      std::vector<int32_t> prompt(static_cast<size_t>(setting.prompt_tokens));
      for (int32_t& id : prompt)
        id = static_cast<int32_t>(random_() % static_cast<uint64_t>(config_.vocab_size));
      Request request;
      request.prompt = std::move(prompt);
      request.sampling.max_tokens = max_tokens;
      request.sampling.ignore_eos = true;
      request.on_token = [&first_tokens, seen = false](int32_t, const std::string&) mutable {
        first_tokens += !seen;
        seen = true;
      };
      request.on_finish = [this, &finished](const Result& result) {
        ++finished;
        if (result.error_code && result.error_code != ErrorCode::kCancelled) {
          failure_ = Error(*result.error_code, result.error_message);
        }
      };
      ids.push_back(engine.submit(std::move(request)));
    }
    return ids;
  }

  void step(Engine& engine) {
    if (context_.interrupted()) throw Error(ErrorCode::kCancelled, "interrupted");
    const bool worked = engine.step();
    if (failure_) throw Error(*failure_);
    check(worked, "the engine steps while requests are in flight");
  }

  double prefill(Engine& engine, const Case& setting) {
    int64_t first_tokens = 0, finished = 0;
    const double start = context_.now();
    submit(engine, setting, 1, first_tokens, finished);
    while (finished < setting.batch) step(engine);
    return (context_.now() - start) * 1000;
  }

  // Milliseconds of each step in which every row decodes, and nothing else runs.
  std::vector<double> decode_steps(Engine& engine, const Case& setting) {
    int64_t first_tokens = 0, finished = 0;
    // Rows prefilled early decode while later ones are still prefilled: leave room for those tokens.
    const int64_t prefill_per_step = std::max<int64_t>(1, chunk_ - setting.batch);
    const int64_t early =
        setting.batch > 1 ? setting.batch * setting.prompt_tokens / prefill_per_step + 1 : 0;
    const auto max_tokens =
        static_cast<int32_t>(std::min<int64_t>(options_.decode_steps + 2 + early, 1 << 30));
    const auto ids = submit(engine, setting, max_tokens, first_tokens, finished);
    while (first_tokens < setting.batch) step(engine);
    std::vector<double> steps;
    for (int32_t i = 0; i < options_.decode_steps && finished == 0; ++i) {
      const double start = context_.now();
      step(engine);
      steps.push_back((context_.now() - start) * 1000);
    }
    for (const RequestId id : ids) engine.cancel(id);
    while (finished < setting.batch) step(engine);
    return steps;
  }

  double prefill_flops(const Case& setting) const {
    const std::vector<BatchRow> rows(
        static_cast<size_t>(setting.batch),
        {.new_tokens = static_cast<int32_t>(setting.prompt_tokens), .prefix_len = 0});
    return plan_cost(plan_context_parallel(rows, 1, {}), cost_shape(config_, Layout{})).total_flops;
  }

  double decode_bytes(const EngineInfo& info, const Case& setting) const {
    if (!knows_all_bytes_) return 0;
    const double kv_token =
        static_cast<double>(info.kv_bytes) / static_cast<double>(std::max<int64_t>(info.kv_tokens, 1));
    return weights_read_share(config_, setting.batch) * static_cast<double>(info.weight_bytes) +
           static_cast<double>(setting.batch * setting.prompt_tokens) * kv_token;
  }

  const BenchOptions& options_;
  const ModelConfig& config_;
  Context& context_;
  const bool knows_all_bytes_;  // an engine in a job tells those of its own process
  int32_t chunk_ = 0;           // new tokens per step
  std::mt19937_64 random_;
  std::optional<Error> failure_;  // of a request
};

double prefill_rate(const Measured& m, double ms) {
  return per_second(m.setting.batch * m.setting.prompt_tokens, ms);
}

double gflops(const Measured& m) {
  return m.prefill_flops / m.prefill_ms.median / 1e6;
}
double decode_gbytes(const Measured& m) {
  return m.decode_bytes / m.decode_ms->median / 1e6;
}

// "71 %" of a limit that was measured.
std::string share_text(double value, double limit) {
  return value > 0 && limit > 0 ? fmt::format("{:.0f} %", 100 * value / limit) : "-";
}

// One line while measuring goes on; the table comes when the limits are known.
void print_progress(const Measured& m, std::ostream& out) {
  out << fmt::format("cp {} batch {} prompt {}: prefill {:.2f} ms", m.setting.cp, m.setting.batch,
                     m.setting.prompt_tokens, m.prefill_ms.median);
  if (m.decode_ms) out << fmt::format(", decode step {:.3f} ms", m.decode_ms->median);
  out << std::endl;
}

void print_table(const std::vector<Measured>& rows, const HardwareLimits& limits, std::ostream& out) {
  out << fmt::format("{:>4} {:>5} {:>8} {:>11} {:>21} {:>10} {:>9} {:>8} {:>10} {:>19} {:>10} {:>7} {:>8}\n",
                     "cp", "batch", "prompt", "prefill ms", "least..most", "tokens/s", "GFLOP/s", "of limit",
                     "step ms", "least..most", "tokens/s", "GB/s", "of limit");
  for (const Measured& m : rows) {
    out << fmt::format("{:>4} {:>5} {:>8} {:>11.2f} {:>21} {:>10.0f} {:>9.1f} {:>8}", m.setting.cp,
                       m.setting.batch, m.setting.prompt_tokens, m.prefill_ms.median,
                       fmt::format("{:.2f}..{:.2f}", m.prefill_ms.least, m.prefill_ms.most),
                       prefill_rate(m, m.prefill_ms.median), gflops(m),
                       share_text(gflops(m), limits.flops_per_s / 1e9));
    if (m.decode_ms) {
      out << fmt::format(" {:>10.3f} {:>19} {:>10.1f} {:>7} {:>8}", m.decode_ms->median,
                         fmt::format("{:.3f}..{:.3f}", m.decode_ms->least, m.decode_ms->most),
                         per_second(m.setting.batch, m.decode_ms->median),
                         m.decode_bytes > 0 ? fmt::format("{:.1f}", decode_gbytes(m)) : "-",
                         share_text(decode_gbytes(m), limits.bytes_per_s / 1e9));
    }
    out << "\n";
  }
  out << std::flush;
}

std::string spread_json(const Spread& spread) {
  return JsonObject().set("median", spread.median).set("least", spread.least).set("most", spread.most).str();
}

// null where the value is 0: unknown.
JsonObject& set_known(JsonObject& object, const char* key, double value) {
  return value > 0 ? object.set(key, value) : object.set_json(key, "null");
}

JsonObject& set_share(JsonObject& object, const char* key, double value, double limit) {
  return set_known(object, key, limit > 0 ? value / limit : 0);
}

std::string row_json(const Measured& m, const HardwareLimits& limits) {
  JsonObject object;
  object.set("cp", m.setting.cp)
      .set("batch", m.setting.batch)
      .set("prompt_tokens", m.setting.prompt_tokens)
      .set_json("prefill_ms", spread_json(m.prefill_ms))
      .set("prefill_tokens_per_s", prefill_rate(m, m.prefill_ms.median))
      .set("prefill_gflop_per_s", gflops(m));
  set_share(object, "prefill_of_limit", gflops(m), limits.flops_per_s / 1e9);
  if (m.decode_ms) {
    object.set_json("decode_step_ms", spread_json(*m.decode_ms))
        .set("decode_tokens_per_s", per_second(m.setting.batch, m.decode_ms->median));
    set_known(object, "decode_gb_per_s", decode_gbytes(m));
    set_share(object, "decode_of_limit", decode_gbytes(m), limits.bytes_per_s / 1e9);
  }
  return object.str();
}

void check_sizes(const BenchOptions& options, const EngineOptions& engine, const ModelConfig& config) {
  const int64_t context = engine.context_length > 0 ? std::min(engine.context_length, config.context_length)
                                                    : config.context_length;
  const int64_t longest = *std::max_element(options.prompt_tokens.begin(), options.prompt_tokens.end());
  if (longest > context - options.decode_steps - 2) {
    throw Error(ErrorCode::kUsage,
                fmt::format("-p {}: with {} decode steps it is over the context of {} tokens; "
                            "nearest: {}",
                            longest, options.decode_steps, context,
                            std::max<int64_t>(1, context - options.decode_steps - 2)));
  }
  const int64_t rows = *std::max_element(options.batch.begin(), options.batch.end());
  if (rows > engine.max_running_requests) {
    throw Error(ErrorCode::kUsage,
                fmt::format("-b {}: more than --max-running-requests {}; raise that, or nearest: {}", rows,
                            engine.max_running_requests, engine.max_running_requests));
  }
}

}  // namespace

int run_bench(const CommonOptions& common, const BenchOptions& options, Context& context) {
  const ModelConfig config = load_model_config(common.engine.model);
  check_sizes(options, common.engine, config);
  EngineOptions engine_options = common.engine;
  engine_options.prefix_cache = false;  // random prompts must be computed, not found
  std::vector<int64_t> cp_list = options.cp;
  if (cp_list.empty()) cp_list = {common.engine.layout.cp};

  Bench bench(options, engine_options, config, context);
  std::vector<Measured> measured;
  std::string engine_info;
  int64_t peak_memory = 0;
  HardwareLimits limits;
  for (size_t i = 0; i < cp_list.size(); ++i) {
    engine_options.layout.cp = static_cast<int32_t>(cp_list[i]);
    const auto engine = context.open_engine(engine_options);
    context.catch_interrupts();
    for (const int64_t prompt_tokens : options.prompt_tokens) {
      for (const int64_t batch : options.batch) {
        measured.push_back(bench.measure(*engine, {cp_list[i], prompt_tokens, batch}));
        if (!common.quiet) print_progress(measured.back(), context.err);
      }
    }
    if (!common.quiet) context.err << device_text(engine->info(), engine_options.layout) << std::endl;
    engine_info = engine_json(engine->info(), engine_options.layout).str();
    if (i + 1 < cp_list.size()) continue;
    peak_memory = context.peak_memory_bytes();  // before the limits' own buffers
    limits = engine->measure_limits();
  }

  if (common.json) {
    std::vector<std::string> rows;
    for (const Measured& m : measured) rows.push_back(row_json(m, limits));
    JsonObject object;
    object.set("repeats", options.repeats)
        .set("decode_steps", options.decode_steps)
        .set_json("results", json_array(rows));
    set_known(object, "limit_gflop_per_s", limits.flops_per_s / 1e9);
    set_known(object, "limit_gb_per_s", limits.bytes_per_s / 1e9);
    object.set("peak_memory_bytes", peak_memory).set_json("engine", engine_info);
    context.out << object.str() << std::endl;
    return kExitOk;
  }
  print_table(measured, limits, context.out);
  if (!common.quiet) {
    context.err << fmt::format("median of {} prefills and {} decode steps, peak memory {}", options.repeats,
                               options.decode_steps, bytes_text(peak_memory));
    if (limits.flops_per_s > 0)
      context.err << fmt::format("; limit, measured: {:.0f} GFLOP/s, {:.1f} GB/s", limits.flops_per_s / 1e9,
                                 limits.bytes_per_s / 1e9);
    context.err << std::endl;
  }
  return kExitOk;
}

}  // namespace longspan::cli
