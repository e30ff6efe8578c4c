#pragma once

#include <string>
#include <string_view>

namespace longspan {

/// Byte-level vocabularies write each byte as one printable character (GPT-2's table: a space is U+0120).
std::string to_byte_level(std::string_view bytes);

/// The bytes that a token stands for. A token with a character outside the table stands for its own UTF-8
/// bytes, as in the `tokenizers` package's decoder.
std::string from_byte_level(std::string_view token);

}  // namespace longspan
