#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace longspan {

/// Why a text of `size` bytes is not JSON, in one short line without bytes of the text itself: "invalid
/// literal at byte 5 of 20". `what` and `byte` (from 1) are what nlohmann::json::parse_error says.
std::string json_reason(std::string_view what, size_t byte, size_t size);

}  // namespace longspan
