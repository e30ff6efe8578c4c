#include "cli/self_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace longspan::cli {

SelfCheck::SelfCheck(int64_t every, EngineOptions& options, const Context& context) : every_(every) {
  if (every_ == 0) return;
  options.mem_fraction /= 2;
  EngineOptions alone = options;
  alone.layout = LayoutOptions{};
  alone.job = nullptr;
  alone.prefix_cache = false;
  reference_ = context.open_engine(alone);
}

bool SelfCheck::next() {
  return enabled() && seen_++ % every_ == 0;
}

SamplingParams SelfCheck::with_logprobs(SamplingParams sampling) {
  sampling.logprobs = std::max(sampling.logprobs, 0);
  sampling.prompt_logprobs = true;
  return sampling;
}

void SelfCheck::compare(const Prompt& prompt, const Result& result) {
  if (result.finish_reason == FinishReason::kError) return;
  std::vector<int32_t> ids = reference_->tokenize(prompt);
  std::vector<std::optional<float>> expected = result.prompt_logprobs;
  for (const TokenLogprob& token : result.logprobs) {
    ids.push_back(token.token_id);
    expected.emplace_back(token.logprob);
  }
  Request replay;
  replay.prompt = ids;
  replay.sampling.max_tokens = 0;
  replay.sampling.prompt_logprobs = true;
  std::vector<std::optional<float>> actual;
  try {
    actual = reference_->generate(std::move(replay)).prompt_logprobs;
  } catch (const Error& e) {
    ++failed_;
    failure_ = e.what();
    return;
  }
  check(actual.size() == expected.size(), "a replay has one log-probability per token");
  ++requests_;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!actual[i] || !expected[i]) continue;
    const double difference = std::abs(static_cast<double>(*actual[i]) - *expected[i]);
    // A NaN on either side is the largest difference there is.
    largest_ = difference <= largest_ ? largest_ : std::isnan(difference) ? INFINITY : difference;
    ++tokens_;
  }
}

std::string SelfCheck::text() const {
  std::string text =
      fmt::format("self-check: {} requests, {} tokens, largest log-probability difference {:.2g} to cp 1",
                  requests_, tokens_, largest_);
  if (failed_ > 0) text += fmt::format("; {} replays failed, the last with: {}", failed_, failure_);
  return text;
}

}  // namespace longspan::cli
