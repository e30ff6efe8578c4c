#pragma once

#include <cstdint>
#include <vector>

#include "plan/batch.h"

namespace longspan {

/// What a step is to compute besides KV.
struct StepWants {
  std::vector<char> logits;            // [bs] the logits after each row's last token?
  std::vector<int32_t> score_targets;  // [T] token whose log-probability is wanted after each token, -1: none

  bool operator==(const StepWants&) const = default;
};

struct StepOutput {
  std::vector<std::vector<float>> logits;  // [bs] of [V], empty where not wanted
  std::vector<float> scores;               // [T] natural log-probabilities, where wanted
  std::vector<int32_t> rank_tokens;  // [bs, cp] new tokens that each rank computed; empty: no row was cut
};

}  // namespace longspan
