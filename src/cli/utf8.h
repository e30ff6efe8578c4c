#pragma once

#include <cstddef>
#include <string_view>

namespace longspan::cli {

/// Offset of the first byte that does not belong to well-formed UTF-8 (Unicode 15, table 3-7), or npos.
size_t first_invalid_utf8(std::string_view text);

}  // namespace longspan::cli
