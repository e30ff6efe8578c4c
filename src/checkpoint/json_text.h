#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace longspan {

/// Parses one JSON value. Throws Error(kUnreadable) that starts with `what`: a syntax error or invalid UTF-8
/// (with its byte offset), a key twice in one object, nesting deeper than 64.
nlohmann::json parse_json(std::string_view text, std::string_view what);

/// `text` in single quotes for a one-line message: control characters become '?', long texts are cut.
std::string in_quotes(std::string_view text);

/// A JSON value for a one-line message, cut if long.
std::string shown(const nlohmann::json& value);

}  // namespace longspan
