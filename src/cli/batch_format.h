#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/json_out.h"

namespace longspan::cli {

/// Longest line of a batch file, in bytes.
inline constexpr size_t kMaxBatchLine = size_t{64} << 20;

/// One line of a batch file. `error` is set if the line breaks a rule; its message names line and field.
struct BatchLine {
  std::string id;  // the line's own if it can be read, else its number
  Request request;
  std::optional<Error> error;
};

/// Reads one JSON object. Nothing is guessed: an unknown or repeated field, a wrong type and
/// a value out of range are errors. `number` counts from 1. Throws nothing but std::bad_alloc.
BatchLine parse_batch_line(std::string_view text, int64_t number);

/// What an output line says of `result`, without the id. `sampling` tells which fields were asked for.
void set_result(JsonObject& object, const SamplingParams& sampling, const Result& result);

/// The output line, without its line end.
std::string format_batch_result(const std::string& id, const SamplingParams& sampling, const Result& result);

/// The output line of a request that got no Result of its own.
std::string format_batch_error(const std::string& id, ErrorCode code, const std::string& message);

}  // namespace longspan::cli
