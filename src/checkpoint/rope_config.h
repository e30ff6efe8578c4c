#pragma once

#include <cstdint>

#include "checkpoint/config_fields.h"
#include "checkpoint/model_config.h"

namespace longspan {

/// The rotary embedding of a config.json, from `rope_theta` and `rope_scaling` (transformers 4) or
/// `rope_parameters` (transformers 5); a file with both must mean the same by them. Throws as
/// load_model_config.
RopeConfig read_rope(ConfigFields& config, int64_t max_position_embeddings);

}  // namespace longspan
