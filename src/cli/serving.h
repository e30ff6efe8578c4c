#pragma once

#include <cstdint>
#include <string>

#include "cli/context.h"
#include "cli/options.h"

namespace longspan::cli {

// What a server and the front of a job have in common.

inline constexpr const char* kStopping = "stopping: no new requests; those under way are answered";

/// "listening at http://127.0.0.1:8080"
std::string listening_text(const ServeOptions& options, uint16_t port);

/// `model`, or the one that comes along where it is empty. Throws Error(kUsage) where that is missing.
std::string served_model(const std::string& model, const Context& context);

}  // namespace longspan::cli
