#pragma once

#include <longspan/engine.h>

#include "checkpoint/model_config.h"

namespace longspan {

/// The model's config, once the options are checked against it, and in a job that it has a process for every
/// rank and that all were started alike. Throws Error: kUsage, kUnreadable. Collective over the job, where
/// there is one.
ModelConfig read_config(const EngineOptions& options);

}  // namespace longspan
