#include "text/byte_level.h"

#include <string>

#include "text/nfc.h"
#include "text_test_util.h"

namespace longspan {
namespace {

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
