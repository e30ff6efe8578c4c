#include "text/pretokenize.h"

#include <string>
#include <vector>

#include "text/regex_dialect.h"
#include "text_test_util.h"

namespace longspan {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const std::vector<std::string>& patterns, const std::string& text) {
  Pieces pieces;
  Pretokenizer(patterns).split(text, [&](std::string_view p) { pieces.emplace_back(p); });
  return pieces;
}

TEST(Pretokenizer, IsolatesMatchesAndWhatLiesBetween) {
  EXPECT_EQ(split({}, "a b"), (Pieces{"a b"}));
  EXPECT_EQ(split({"\\d"}, "a12b"), (Pieces{"a", "1", "2", "b"}));
  EXPECT_EQ(split({"\\d+", "[a-c]"}, "xab12cy"), (Pieces{"x", "a", "b", "12", "c", "y"}));
  EXPECT_EQ(split({"\\d"}, ""), Pieces{});
  EXPECT_EQ(split({"a(?!b)"}, "abaab"), (Pieces{"ab", "a", "ab"}));
}

TEST(Pretokenizer, ReadsPatternsAsOnigurumaDoes) {
  EXPECT_EQ(split({"\\s"}, "a\u180eb\u0085c"),
            (Pieces{"a\u180eb", "\u0085", "c"}));  // U+180E is no white space
  EXPECT_EQ(split({"."}, "a\r\n"), (Pieces{"a", "\r", "\n"}));
  EXPECT_EQ(split({"\\p{L}+"}, "1\U00031350a1"), (Pieces{"1", "\U00031350a", "1"}));  // Unicode 15
  EXPECT_EQ(split({"[^\\p{L}]+"}, "1\U00031350a1"), (Pieces{"1", "\U00031350a", "1"}));
  EXPECT_EQ(split({"\\P{L}+"}, "1\U00031350a1"), (Pieces{"1", "\U00031350a", "1"}));
  EXPECT_EQ(split({"(?i:'s)"}, "a'Sb'\u017f"), (Pieces{"a", "'S", "b", "'\u017f"}));
  EXPECT_EQ(split({"[\\-a]|\\+"}, "-+ab"), (Pieces{"-", "+", "a", "b"}));
}

TEST(Pretokenizer, RefusesWhatTheEnginesMayReadDifferently) {
  for (const char* pattern :
       {"^a",    "a$",      "\\w+",     "\\ba",      "\\h",         "\\R",         "\\X",     "\\1",
        "a{,3}", "a{1,2}+", "a{1,2}?",  "a{x}",      "a{",          "(?<=a)b",     "(?<!a)b", "(?<n>a)",
        "(?i)a", "(?m:a)",  "(?#x)a",   "(*UTF)a",   "[a&&b]",      "[[:alpha:]]", "[]a]",    "[a",
        "[]",    "[\\d-z]", "[a-\\d]",  "[^\\P{L}]", "\\p{Han}",    "\\p{^L}",     "\\pL",    "\\p{L",
        "\\p{",  "(?i:ss)", "(?i:\\d)", "(?i:[a])",  "(?i:\u00e9)", "a)",          "\\",      "a]",
        "a}",    "\\u00e9", "[\\D]"}) {
    SCOPED_TRACE(pattern);
    expect_error(ErrorCode::kNotSupported, "regex", [&] { to_pcre2_pattern(pattern); });
  }
  for (const char* pattern : {"a*", "a|", "", "(a", "**", "a**", "(?:a{1,65535}){1,65535}", "(?=a)"}) {
    SCOPED_TRACE(pattern);
    expect_error(ErrorCode::kNotSupported, "regex can't be used", [&] { Pretokenizer({pattern}); });
  }
  expect_error(ErrorCode::kNotSupported, "17 splits",
               [] { Pretokenizer(std::vector<std::string>(17, "a")); });
}

}  // namespace
}  // namespace longspan
