#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace longspan {
namespace {

// splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014).
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double gumbel(uint64_t seed, int64_t position, int32_t token) {
  const uint64_t bits = mix(mix(mix(seed) ^ static_cast<uint64_t>(position)) ^ static_cast<uint64_t>(token));
  const double uniform = (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;  // in (0, 1)
  return -std::log(-std::log(uniform));
}

// By logit descending, then by id ascending.
auto more_likely(std::span<const float> logits) {
  return
      [logits](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
}

std::vector<int32_t> most_likely(std::span<const float> logits, int64_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  count = std::min<int64_t>(count, std::ssize(ids));
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), more_likely(logits));
  ids.resize(count);
  return ids;
}

// The shortest run of the most likely ids whose probabilities add up to top_p; `ids` is in descending order.
void keep_nucleus(std::span<const float> logits, const SamplingParams& params, std::vector<int32_t>& ids) {
  const double top = logits[ids.front()];
  std::vector<double> weights;
  for (const int32_t id : ids) weights.push_back(std::exp((logits[id] - top) / params.temperature));
  const double wanted = params.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  size_t kept = 0;
  while (kept < ids.size() && sum < wanted) sum += weights[kept++];
  ids.resize(std::max<size_t>(kept, 1));
}

// Tokens less likely than min_p times the likeliest go.
void keep_likely(std::span<const float> logits, const SamplingParams& params, std::vector<int32_t>& ids) {
  float top = -std::numeric_limits<float>::infinity();
  for (const int32_t id : ids) top = std::max(top, logits[id]);
  const double least = std::log(static_cast<double>(params.min_p)) * params.temperature;
  std::erase_if(ids, [&](int32_t id) { return logits[id] - static_cast<double>(top) < least; });
}

}  // namespace

std::span<const float> adjusted_logits(std::span<const float> logits, const SamplingParams& params,
                                       std::span<const int32_t> tokens, int64_t prompt_len,
                                       std::vector<float>& scratch) {
  const bool repetition = params.repetition_penalty != 1;
  const bool counted = params.presence_penalty != 0 || params.frequency_penalty != 0;
  if (!repetition && !counted && params.logit_bias.empty()) return logits;
  scratch.assign(logits.begin(), logits.end());
  if (repetition) {
    std::vector<char> seen(logits.size());
    for (const int32_t id : tokens) {
      if (std::exchange(seen[id], 1)) continue;
      scratch[id] =
          scratch[id] > 0 ? scratch[id] / params.repetition_penalty : scratch[id] * params.repetition_penalty;
    }
  }
  if (counted) {
    std::vector<char> seen(logits.size());
    for (const int32_t id : tokens.subspan(prompt_len)) {
      scratch[id] -= params.frequency_penalty;
      if (!std::exchange(seen[id], 1)) scratch[id] -= params.presence_penalty;
    }
  }
  for (const auto& [id, bias] : params.logit_bias) scratch[id] += bias;
  return scratch;
}

int32_t sample(std::span<const float> logits, const SamplingParams& params, int64_t position) {
  if (params.temperature <= 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const int64_t vocab = std::ssize(logits);
  const bool nucleus = params.top_p < 1;
  const int64_t count = params.top_k > 0 ? std::min<int64_t>(params.top_k, vocab) : vocab;
  std::vector<int32_t> ids;
  if (nucleus || count < vocab) {
    ids = most_likely(logits, count);
  } else {
    ids.resize(vocab);
    std::iota(ids.begin(), ids.end(), 0);
  }
  if (nucleus) keep_nucleus(logits, params, ids);
  if (params.min_p > 0) keep_likely(logits, params, ids);

  int32_t best = ids.front();
  double best_score = -std::numeric_limits<double>::infinity();
  for (const int32_t id : ids) {
    const double score =
        logits[id] / static_cast<double>(params.temperature) + gumbel(params.seed, position, id);
    if (score > best_score || (score == best_score && id < best)) {
      best = id;
      best_score = score;
    }
  }
  return best;
}

TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int32_t count) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  const double log_sum = top + std::log(sum);
  const auto logprob = [&](int32_t id) { return static_cast<float>(logits[id] - log_sum); };
  TokenLogprob result{.token_id = token, .logprob = logprob(token), .top = {}};
  if (count > 0) {
    for (const int32_t id : most_likely(logits, count)) result.top.emplace_back(id, logprob(id));
  }
  return result;
}

}  // namespace longspan
