#pragma once

#include <vector>

#include "checkpoint/model_config.h"

namespace longspan {

struct Rope {
  std::vector<float> inv_freq;  // [D/2], radians per position
  float factor = 1;             // multiplies cosines and sines (yarn's attention factor)
};

/// Frequencies as transformers computes them (modeling_rope_utils): plain, linear, llama3 and yarn
/// (arXiv 2309.00071), in f32 so that angles round alike.
Rope make_rope(const RopeConfig& config, int32_t head_dim, int64_t context_length);

}  // namespace longspan
