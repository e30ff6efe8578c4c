#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <string>

#include "cli/json_out.h"

namespace longspan::cli {

/// "312.5 MiB"; "unknown" for 0.
std::string bytes_text(int64_t bytes);
/// Tokens per second; 0 where no time passed.
double per_second(int64_t tokens, double milliseconds);
/// "1234 tokens/s", with a decimal below 100.
std::string rate_text(double tokens_per_second);
/// "cpu avx512_bf16 bf16, 2 ranks (cp 2) x 4 threads".
std::string device_text(const EngineInfo& info, const LayoutOptions& layout);
JsonObject engine_json(const EngineInfo& info, const LayoutOptions& layout);

}  // namespace longspan::cli
