#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "cli/commands.h"
#include "cli/eval.h"
#include "cli/json_out.h"
#include "cli/load_run.h"
#include "cli/load_stats.h"
#include "cli/progress.h"
#include "server/remote_engine.h"

namespace longspan::cli {
namespace {

constexpr double kLateMs = 50;  // what is worth a word

std::vector<Request> make_requests(const CommonOptions& common, const BenchServeOptions& options,
                                   const Context& context, const Engine& engine,
                                   const std::vector<size_t>& kinds) {
  const auto any = [&](bool document) {
    return std::any_of(options.mix.begin(), options.mix.end(),
                       [&](const LoadKind& kind) { return (kind.tokens > 0) == document; });
  };
  Gsm8kTask questions;
  RecallData documents;
  if (any(false)) questions = load_gsm8k_task(options.data, options.shots, context.executable);
  if (any(true)) documents = load_recall(common.engine.model);
  std::vector<Request> requests;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const LoadKind& kind = options.mix[kinds[i]];
    Request request;
    if (kind.tokens == 0) {
      request.prompt = questions.prompt(i % questions.problems.size());
    } else {
      request.prompt =
          make_recall_question(documents, engine, kind.tokens, options.seed, i, "--mix").request.prompt;
    }
    request.sampling.max_tokens = options.max_tokens;
    request.sampling.ignore_eos = options.ignore_eos;
    requests.push_back(std::move(request));
  }
  return requests;
}

double share(int64_t part, double whole) {
  return whole > 0 ? static_cast<double>(part) / whole : 0;
}

JsonObject percentiles_json(const Percentiles& p) {
  JsonObject object;
  object.set("count", p.count)
      .set("mean", p.mean)
      .set("p50", p.p50)
      .set("p90", p.p90)
      .set("p99", p.p99)
      .set("max", p.most);
  return object;
}

JsonObject summary_json(const LoadSummary& s, double seconds) {
  JsonObject failures;
  for (const auto& [reason, count] : s.failures) failures.set(reason, count);
  JsonObject object;
  object.set("requests", s.requests)
      .set("answered", s.answered)
      .set("failures", failures)
      .set("goodput", share(s.good, static_cast<double>(s.requests)))
      .set("good_per_s", share(s.good, seconds))
      .set("answered_per_s", share(s.answered, seconds))
      .set("prompt_tokens", s.prompt_tokens)
      .set("cached_tokens", s.cached_tokens)
      .set("new_tokens", s.new_tokens)
      .set("new_tokens_per_s", share(s.new_tokens, seconds))
      .set("ttft_ms", percentiles_json(s.ttft_ms))
      .set("inter_token_ms", percentiles_json(s.token_ms))
      .set("e2e_ms", percentiles_json(s.e2e_ms));
  return object;
}

void print_row(std::ostream& out, const std::string& name, const LoadSummary& s) {
  std::string line = fmt::format("{:<14}{:>9}", name, s.answered);
  for (const Percentiles* p : {&s.ttft_ms, &s.token_ms, &s.e2e_ms})
    line += fmt::format("  {:>8.1f}{:>9.1f}{:>9.1f}", p->p50, p->p90, p->p99);
  out << line << '\n';
}

std::string limits_text(const LoadLimits& limits) {
  std::string text;
  const std::pair<const char*, double> all[] = {
      {"TTFT", limits.ttft_ms}, {"inter-token", limits.token_ms}, {"end to end", limits.e2e_ms}};
  for (const auto& [name, limit] : all)
    if (limit > 0) text += fmt::format("{}{} {:g} ms", text.empty() ? " within " : ", ", name, limit);
  return text;
}

// The result in words and a table.
void tell(std::ostream& out, const BenchServeOptions& options, const std::string& model,
          const LoadSummary& all, const std::vector<LoadSummary>& by_kind, double seconds) {
  out << fmt::format("{} requests to {} at {} in {:.1f} s: {} answered", all.requests, model, options.url,
                     seconds, all.answered);
  for (const auto& [reason, failed] : all.failures) out << fmt::format("; {}: {}", reason, failed);
  out << fmt::format("\n{} prompt tokens, {} of them cached; {} new tokens, {:.1f}/s\n\n", all.prompt_tokens,
                     all.cached_tokens, all.new_tokens, share(all.new_tokens, seconds));
  out << fmt::format("{:<23}  {:^26}  {:^26}  {:^26}\n", "", "TTFT, ms", "between tokens, ms",
                     "end to end, ms");
  out << fmt::format("{:<14}{:>9}", "prompts", "answered");
  for (int i = 0; i < 3; ++i) out << fmt::format("  {:>8}{:>9}{:>9}", "p50", "p90", "p99");
  out << '\n';
  for (size_t kind = 0; kind < by_kind.size() && by_kind.size() > 1; ++kind)
    print_row(out, options.mix[kind].name(), by_kind[kind]);
  print_row(out, "all", all);
  out << fmt::format("\ngoodput: {:.1f} % of all requests, {:.2f}/s{}\n",
                     100 * share(all.good, static_cast<double>(all.requests)), share(all.good, seconds),
                     limits_text(options.limits));
  if (all.late_ms > kLateMs)
    out << fmt::format("up to {:.0f} ms passed before a request had one of {} connections (--parallel)\n",
                       all.late_ms, options.parallel);
  out << std::flush;
}

}  // namespace

int run_bench_serve(const CommonOptions& common, const BenchServeOptions& options, Context& context) {
  const auto engine = server::open_remote_engine({.url = options.url,
                                                  .model_name = options.served_model,
                                                  .api_key = options.api_key,
                                                  .model_folder = common.engine.model,
                                                  .chat_template = common.engine.chat_template,
                                                  .parallel = 1});
  const std::string model = engine->info().architecture;
  std::mt19937_64 random(options.seed);
  const auto count = static_cast<size_t>(options.requests);
  const std::vector<size_t> kinds = draw_kinds(count, options.mix, random);
  std::vector<double> due(count, 0.0);
  if (options.rate > 0) due = poisson_arrivals(count, options.rate, random);

  server::HttpUrl url = server::parse_url(options.url);
  if (!url.base.ends_with("/v1")) url.base += "/v1";
  LoadRun run(make_requests(common, options, context, *engine, kinds), due, model, context.now);
  context.catch_interrupts();
  const double begin = context.now();
  ProgressPace pace(begin);
  const bool whole =
      run.run([&] { return std::make_unique<server::HttpClient>(url, options.api_key, options.timeout_s); },
              static_cast<size_t>(options.parallel), context.interrupted,
              [&](size_t ended) {
                if (common.quiet || !pace.due(context.now())) return;
                context.err << fmt::format("bench-serve: {} of {} ended", ended, count) << std::endl;
              });
  if (!whole) throw Error(ErrorCode::kCancelled, "interrupted");
  const double seconds = context.now() - begin;

  const LoadSummary all = summarize(run.samples(), options.limits);
  std::vector<std::vector<LoadSample>> samples(options.mix.size());
  for (size_t i = 0; i < count; ++i) samples[kinds[i]].push_back(run.samples()[i]);
  std::vector<LoadSummary> by_kind;
  for (const auto& of_kind : samples) by_kind.push_back(summarize(of_kind, options.limits));

  tell(common.json ? context.err : context.out, options, model, all, by_kind, seconds);
  if (common.json) {
    std::vector<std::string> rows;
    for (size_t kind = 0; kind < by_kind.size(); ++kind)
      rows.push_back(summary_json(by_kind[kind], seconds).set("kind", options.mix[kind].name()).str());
    JsonObject report = summary_json(all, seconds);
    report.set("url", options.url)
        .set("model", model)
        .set("rate", options.rate)
        .set("seed", options.seed)
        .set("seconds", seconds)
        .set("late_ms", all.late_ms)
        .set_json("kinds", json_array(rows));
    context.out << report.str() << std::endl;
  }
  return all.answered == all.requests ? kExitOk : kExitRequestFailed;
}

}  // namespace longspan::cli
