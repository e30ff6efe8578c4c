#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

namespace longspan::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

const Histogram::BucketBoundaries kLong = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,  2.5,
                                           5,    10,    30,   60,  120,  300, 600};
const Histogram::BucketBoundaries kShort = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                            0.2,   0.5,    1,     2.5,  5,     10};

/// A counter that follows a number which only grows.
void follow(Counter& counter, int64_t value) {
  counter.Increment(std::max(0.0, static_cast<double>(value) - counter.Value()));
}

}  // namespace

struct Metrics::Families {
  explicit Families(const std::string& model) : labels{{"model", model}} {}

  Family<Counter>& counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Labels(labels).Register(registry);
  }
  Counter& counter(const char* name, const char* help) { return counters(name, help).Add({}); }
  Family<Gauge>& gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Labels(labels).Register(registry);
  }
  Gauge& gauge(const char* name, const char* help) { return gauges(name, help).Add({}); }
  Histogram& histogram(const char* name, const char* help, const Histogram::BucketBoundaries& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Labels(labels).Register(registry).Add({},
                                                                                                    buckets);
  }

  const std::map<std::string, std::string> labels;
  prometheus::Registry registry;
  Family<Counter>& requests =
      counters("longspan_requests_total", "Requests that the engine finished, by reason");
  Family<Counter>& refusals =
      counters("longspan_refused_total", "HTTP requests refused before the engine, by status");
  Counter& prompt_tokens = counter("longspan_prompt_tokens_total", "Prompt tokens of finished requests");
  Counter& cached_tokens =
      counter("longspan_cached_prompt_tokens_total", "Of these, found in the prefix tree");
  Counter& new_tokens = counter("longspan_generated_tokens_total", "Tokens generated for finished requests");
  Counter& steps = counter("longspan_engine_steps_total", "Forward steps");
  Counter& computed_prompt = counter("longspan_engine_prefill_tokens_total", "Prompt tokens computed");
  Counter& computed_new = counter("longspan_engine_decode_tokens_total", "Decode tokens computed");
  Counter& integrity = counter("longspan_integrity_checks_total",
                               "Checks of the page accounting that passed (with --check-integrity)");
  Counter& preemptions =
      counter("longspan_preemptions_total",
              "Requests that gave their KV pages back to older ones and were computed again");
  Histogram& ttft =
      histogram("longspan_time_to_first_token_seconds", "From arrival to the first token", kLong);
  Histogram& prefill =
      histogram("longspan_prefill_seconds", "From a request's first step to its first token", kLong);
  Histogram& gap = histogram("longspan_inter_token_seconds", "Between two tokens of a request", kShort);
  Gauge& ready = gauge("longspan_ready", "1 once the model is loaded");
  Gauge& running = gauge("longspan_requests_running", "Requests in the batch");
  Gauge& waiting = gauge("longspan_requests_waiting", "Requests that wait for a place or for pages");
  Family<Gauge>& pages = gauges("longspan_kv_pages", "KV pages by state");
};

Metrics::Metrics(const std::string& model_name) : families_(std::make_unique<Families>(model_name)) {}
Metrics::~Metrics() = default;

void Metrics::on_result(const Result& result) {
  Families& f = *families_;
  const char* reason = result.error_code ? to_string(*result.error_code) : to_string(result.finish_reason);
  f.requests.Add({{"reason", reason}}).Increment();
  f.prompt_tokens.Increment(result.prompt_tokens);
  f.cached_tokens.Increment(result.cached_tokens);
  f.new_tokens.Increment(static_cast<double>(result.token_ids.size()));
  if (result.error_code) return;
  f.ttft.Observe(result.ttft_ms / 1000);
  f.prefill.Observe(result.prefill_ms / 1000);
}

void Metrics::on_token_gap(double seconds) {
  families_->gap.Observe(seconds);
}

void Metrics::on_refusal(int status) {
  families_->refusals.Add({{"status", std::to_string(status)}}).Increment();
}

std::string Metrics::text(const EngineLoop::Snapshot* snapshot) {
  Families& f = *families_;
  f.ready.Set(snapshot ? 1 : 0);
  if (snapshot) {
    const EngineStats& stats = snapshot->stats;
    f.running.Set(static_cast<double>(stats.running));
    f.waiting.Set(static_cast<double>(stats.waiting));
    f.pages.Add({{"state", "free"}}).Set(static_cast<double>(stats.free_pages));
    f.pages.Add({{"state", "cached"}}).Set(static_cast<double>(stats.cached_pages));
    f.pages.Add({{"state", "used"}})
        .Set(static_cast<double>(stats.total_pages - stats.free_pages - stats.cached_pages));
    follow(f.steps, stats.steps);
    follow(f.computed_prompt, stats.prefill_tokens);
    follow(f.computed_new, stats.decode_tokens);
    follow(f.integrity, snapshot->integrity_checks);
    follow(f.preemptions, stats.preemptions);
  }
  return prometheus::TextSerializer().Serialize(f.registry.Collect());
}

}  // namespace longspan::server
