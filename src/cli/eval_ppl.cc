#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "cli/eval.h"
#include "cli/input_file.h"
#include "cli/pump.h"

namespace longspan::cli {
namespace {

constexpr int64_t kDefaultContext = 4096;

std::string read_text(const EvalRun& run) {
  InputFile file(run.options.data, run.context.in_fd);
  std::string text = file.read_all(run.context.interrupted);
  if (const size_t bad = first_invalid_utf8(text); bad != std::string::npos) {
    throw Error(ErrorCode::kUnreadable, fmt::format("{}: byte {} is not UTF-8 text", file.name(), bad));
  }
  if (text.empty()) throw Error(ErrorCode::kUsage, fmt::format("{} is empty", file.name()));
  return text;
}

}  // namespace

std::vector<PplWindow> ppl_windows(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<PplWindow> windows;
  int64_t scored = 0;
  for (int64_t begin = 0; begin < tokens; begin += stride) {
    const int64_t end = std::min(begin + context, tokens);
    const int64_t first = std::max(scored, begin + 1);
    if (first < end) windows.push_back({begin, end, first});
    scored = end;
    if (end == tokens) break;
  }
  return windows;
}

int64_t eval_ppl(const EvalRun& run, JsonObject& report) {
  const std::vector<int32_t> ids = run.engine.tokenize(read_text(run));
  const int64_t longest = run.engine.info().context_length;
  const int64_t context = run.options.context > 0 ? run.options.context : std::min(longest, kDefaultContext);
  if (context > longest || context < 2) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--context {}: must be from 2 to the model's context; nearest: {}", context,
                            std::clamp<int64_t>(context, 2, longest)));
  }
  const int64_t stride = run.options.stride > 0 ? run.options.stride : std::max<int64_t>(1, context / 2);
  if (stride > context) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--stride {}: must not pass the window; nearest: {}", stride, context));
  }
  std::vector<PplWindow> windows = ppl_windows(static_cast<int64_t>(ids.size()), context, stride);
  if (windows.empty()) throw Error(ErrorCode::kUsage, "the text has fewer than 2 tokens: nothing to score");
  if (run.options.limit > 0) windows.resize(std::min(windows.size(), static_cast<size_t>(run.options.limit)));

  double sum = 0;  // of -ln p
  int64_t scored = 0, failed = 0;
  std::string failure;
  std::vector<double> sums(windows.size());
  const auto make = [&](size_t i) {
    Request request;
    request.prompt = std::vector<int32_t>(ids.begin() + windows[i].begin, ids.begin() + windows[i].end);
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = true;
    return request;
  };
  const auto done = [&](size_t i, const Result& result) {
    if (result.finish_reason == FinishReason::kError) {
      ++failed;
      failure = result.error_message;
      return;
    }
    const PplWindow& window = windows[i];
    for (int64_t t = window.first_scored; t < window.end; ++t) {
      sums[i] -= result.prompt_logprobs[static_cast<size_t>(t - window.begin)].value();
      ++scored;
    }
  };
  run_requests(run.engine, windows.size(), run.parallel, run.context, make, done);
  for (const double window_sum : sums) sum += window_sum;  // in order: the same sum whatever finished first

  const double mean = scored > 0 ? sum / static_cast<double>(scored) : NAN;
  run.people() << fmt::format("ppl: perplexity {:.4f} over {} tokens, windows of {}, stride {}",
                              std::exp(mean), scored, context, stride)
               << (failed ? fmt::format("; {} failed: {}", failed, failure) : "") << std::endl;
  report.set("perplexity", std::exp(mean))
      .set("mean_negative_logprob", mean)
      .set("tokens_scored", scored)
      .set("tokens", ids.size())
      .set("context", context)
      .set("stride", stride);
  return failed;
}

}  // namespace longspan::cli
