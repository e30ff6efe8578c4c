#pragma once

#include "checkpoint/model_config.h"
#include "plan/layout_rules.h"

namespace longspan {

/// What the layout rules need to know of a model, from its config.
LayoutModel layout_model(const ModelConfig& config);

}  // namespace longspan
