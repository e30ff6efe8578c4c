#pragma once

#include <longspan/engine.h>

#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"

namespace longspan {

/// The model's config, once the options are checked against it, and in a job that it has a process for every
/// rank and that all were started alike. `device` is the name of this process'. Throws Error: kUsage,
/// kUnreadable. Collective over the job, where there is one.
ModelConfig read_config(const EngineOptions& options, std::string_view device);

/// Opens the weights, in a job the same ones everywhere. Throws Error: kUsage, kUnreadable, kNotSupported.
/// Collective likewise.
Checkpoint open_checkpoint(const EngineOptions& options, const ModelConfig& config);

}  // namespace longspan
