#pragma once

#include "checkpoint/config_fields.h"

namespace longspan {

/// Throws Error(kNotSupported) for a quantised checkpoint, naming what to use instead.
void refuse_quantised(ConfigFields& fields);

/// Throws Error(kNotSupported) for a field whose value changes the model in a way that is not built.
void refuse_unbuilt(ConfigFields& fields);

/// Passes over the fields of a config.json that change nothing that is computed.
void ignore_known_fields(ConfigFields& fields);

}  // namespace longspan
