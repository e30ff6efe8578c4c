#pragma once

#include <cstdint>

#include "cli/context.h"

namespace longspan::cli {

/// The Context of the running process: standard streams, Engine::open, signals. Installs handlers for SIGINT
/// and SIGTERM and ignores SIGPIPE (a closed pipe is a write error).
Context process_context();

/// VmHWM of /proc/self/status, in bytes; 0 where there is none.
int64_t peak_memory_bytes();

}  // namespace longspan::cli
