#include "text/utf8.h"

#include <string>

#include "text/byte_level.h"
#include "text/nfc.h"
#include "text_test_util.h"

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

TEST(ByteLevel, EveryByteHasACharacterAndComesBack) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  EXPECT_EQ(from_byte_level(to_byte_level(all)), all);
  EXPECT_EQ(to_byte_level(" \n~\x7f\xad\xff"), "ĠĊ~ġŃÿ");
  EXPECT_EQ(from_byte_level("Ġa"), " a");
  EXPECT_EQ(from_byte_level("a b"), "a b");  // a space is no byte-level character: the token's own bytes
  EXPECT_EQ(from_byte_level("é你"), "é你");
}

TEST(Nfc, ComposesWhatUnicodeComposes) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("abc e\u0301 A\u030a\u00e9x"), "abc \u00e9 \u00c5\u00e9x");
  EXPECT_EQ(to_nfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(to_nfc("\u212b\u2126"), "\u00c5\u03a9");
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");  // excluded from composition
  EXPECT_EQ(to_nfc("\u0301"), "\u0301");
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_EQ(to_nfc("e\u0898\u0301"), "e\u0898\u0301");  // a mark that the package does not know
}

}  // namespace
}  // namespace longspan
