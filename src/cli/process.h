#pragma once

#include <cstdint>

#include "cli/context.h"

namespace longspan::cli {

/// The Context of the running process: standard streams, Engine::open, signals. Installs handlers for SIGINT
/// and SIGTERM and ignores SIGPIPE (a closed pipe is a write error).
Context process_context();

/// Where a front says in its job's environment where it is (Context::front).
inline constexpr const char* kFrontVariable = "LONGSPAN_FRONT";

/// A connection is a descriptor, and the usual soft limit of 1024 is too few: from here on it is the hard
/// one.
void raise_descriptor_limit();

/// VmHWM of /proc/self/status, in bytes; 0 where there is none.
int64_t peak_memory_bytes();

}  // namespace longspan::cli
