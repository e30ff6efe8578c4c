#include "base/utf8.h"

namespace longspan {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

}  // namespace

Utf8Char first_char(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Char::Kind::kValid, lead, 1};
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return {Utf8Char::Kind::kInvalid, kReplacement, 1};
  // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  uint32_t code_point = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Char::Kind::kTruncated, kReplacement, i};
    const bool good = i == 1 ? byte(1) >= low && byte(1) <= high : (byte(i) & 0xc0) == 0x80;
    if (!good) return {Utf8Char::Kind::kInvalid, kReplacement, i};
    code_point = code_point << 6 | (byte(i) & 0x3f);
  }
  return {Utf8Char::Kind::kValid, code_point, length};
}

void append_utf8(std::string& out, uint32_t code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
    return;
  }
  const int tail = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  const uint32_t lead_mark = tail == 1 ? 0xc0 : tail == 2 ? 0xe0 : 0xf0;
  out += static_cast<char>(lead_mark | code_point >> (6 * tail));
  for (int i = tail - 1; i >= 0; --i) {
    out += static_cast<char>(0x80 | (code_point >> (6 * i) & 0x3f));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = first_char(text);
    if (c.kind == Utf8Char::Kind::kValid) {
      out.append(text.substr(0, c.bytes));
    } else {
      append_utf8(out, kReplacement);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

size_t first_invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = first_char(text.substr(i));
    if (c.kind != Utf8Char::Kind::kValid) return i;
    i += c.bytes;
  }
  return std::string_view::npos;
}

bool is_white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

void take_complete_chars(std::string& bytes, std::string& out) {
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const Utf8Char c = first_char(rest);
    if (c.kind == Utf8Char::Kind::kTruncated) break;
    if (c.kind == Utf8Char::Kind::kValid) {
      out.append(rest.substr(0, c.bytes));
    } else {
      append_utf8(out, kReplacement);
    }
    rest.remove_prefix(c.bytes);
  }
  bytes.erase(0, bytes.size() - rest.size());
}

}  // namespace longspan
