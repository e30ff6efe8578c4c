#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace longspan {
namespace {

TEST(Utf8, EveryCodePointMakesTheRoundTrip) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Char first = first_char(text + "x");
    ASSERT_EQ(first.kind, Utf8Char::Kind::kValid);
    ASSERT_EQ(first.code_point, c);
    ASSERT_EQ(first.bytes, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(first_char(text.substr(0, cut)).kind, Utf8Char::Kind::kTruncated);
    }
  }
}

TEST(Utf8, EachMaximalInvalidSubpartIsOneReplacement) {
  const std::string r = "\xef\xbf\xbd";
  const std::pair<std::string, std::string> cases[] = {
      {"a\x80z", "a" + r + "z"},
      {"\xc0\xaf", r + r},
      {"\xe0\x80\xaf", r + r + r},
      {"\xed\xa0\x80", r + r + r},
      {"\xe4\xbd", r},
      {"\xe4\xbdx", r + "x"},
      {"\xf0\x9f\x98\xe4\xbd\xa0", r + "\xe4\xbd\xa0"},
      {"\xf4\x90\x80\x80", r + r + r + r},
      {"\xf1\x80\x80\xf1", r + r},
      {"\xff", r},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(replace_invalid_utf8(bytes), text);
}

TEST(Utf8, FirstInvalidByte) {
  constexpr auto kNone = std::string_view::npos;
  for (const char* good :
       {"", "abc", "é", "\u0800", "\uFFFF", "\U00010000", "\U0010FFFF", "日本語 🙂"}) {
    EXPECT_EQ(first_invalid_utf8(good), kNone) << good;
  }
  EXPECT_EQ(first_invalid_utf8("ab\x80"), 2u);
  EXPECT_EQ(first_invalid_utf8("\xC0\x80"), 0u);          // overlong
  EXPECT_EQ(first_invalid_utf8("\xE0\x9F\xBF"), 0u);      // overlong
  EXPECT_EQ(first_invalid_utf8("\xF0\x8F\xBF\xBF"), 0u);  // overlong
  EXPECT_EQ(first_invalid_utf8("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(first_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // past U+10FFFF
  EXPECT_EQ(first_invalid_utf8("a\xE2\x82"), 1u);         // cut off
  EXPECT_EQ(first_invalid_utf8("a\xE2\x82z"), 1u);
  EXPECT_EQ(first_invalid_utf8("\xFF"), 0u);
}

}  // namespace
}  // namespace longspan
