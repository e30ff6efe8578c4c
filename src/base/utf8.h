#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace longspan {

/// What stands at the start of a byte string.
struct Utf8Char {
  enum class Kind { kValid, kInvalid, kTruncated };
  Kind kind;
  uint32_t code_point;  // U+FFFD unless kValid
  size_t bytes;  // length; of the maximal invalid subpart if kInvalid; of the whole string if kTruncated
};

/// The first character of `text`, which must not be empty. kTruncated: all of `text` is the beginning of a
/// valid character.
Utf8Char first_char(std::string_view text);

void append_utf8(std::string& out, uint32_t code_point);

/// `text` with each maximal invalid subpart replaced by U+FFFD (Unicode 3.9, the same as Python's
/// errors="replace").
std::string replace_invalid_utf8(std::string_view text);

/// Offset of the first byte that does not belong to well-formed UTF-8, or npos.
size_t first_invalid_utf8(std::string_view text);

/// Unicode's White_Space property.
bool is_white_space(uint32_t code_point);

/// Moves the complete characters at the front of `bytes` to the end of `out`, invalid parts as U+FFFD. What
/// stays in `bytes` is the beginning of a character, at most three bytes.
void take_complete_chars(std::string& bytes, std::string& out);

}  // namespace longspan
