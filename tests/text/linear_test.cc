// Work grows in proportion to the text, counted in steps; and texts of 5 MB pass without any limit biting.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <bit>
#include <random>
#include <string>
#include <vector>

#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/regex_dialect.h"
#include "text/tokenizer.h"
#include "text_test_util.h"

namespace longspan {
namespace {

std::string text_of(const std::string& kind, size_t bytes) {
  std::mt19937 rng(5);
  std::string text;
  while (text.size() < bytes) {
    if (kind == "one letter") text += 'a';
    if (kind == "no space") text += static_cast<char>('a' + rng() % 26);
    if (kind == "spaces") text += ' ';
    if (kind == "newlines") text += '\n';
    if (kind == "spaces, newline last") text += text.size() + 1 == bytes ? '\n' : ' ';
    if (kind == "punctuation") text += '!';
    if (kind == "digits") text += '7';
    if (kind == "words") text += rng() % 6 == 0 ? ' ' : static_cast<char>('a' + rng() % 26);
    if (kind == "chinese") text += std::string("你好世界").substr(3 * (rng() % 4), 3);
    if (kind == "mixed space") text += rng() % 2 == 0 ? " " : "\t";
  }
  return text;
}

constexpr const char* kKinds[] = {"one letter",  "no space", "spaces", "newlines", "spaces, newline last",
                                  "punctuation", "digits",   "words",  "chinese",  "mixed space"};

TEST(Linear, BpeStepsAreAtMostSixPerByte) {
  std::array<int32_t, 256> bytes{};
  for (int b = 0; b < 256; ++b) bytes[b] = b;
  // Every run of a's of a power of two is a token, and so are all pairs of letters.
  std::vector<BpeMerge> merges;
  int32_t next = 256, run = 'a';
  for (int level = 0; level < 24; ++level, run = next++) merges.push_back({run, run, next});
  for (int a = 'a'; a <= 'z'; ++a) {
    for (int b = 'a'; b <= 'z'; ++b) {
      if (a != 'a' || b != 'a') merges.push_back({a, b, next++});
    }
  }
  const Bpe bpe(bytes, merges);
  for (const char* kind : kKinds) {
    for (const size_t n : {1u, 2u, 1000u, 100'000u, 200'000u}) {
      BpeScratch scratch;
      std::vector<int32_t> out;
      const std::string piece = text_of(kind, n);
      bpe.encode(piece, scratch, out);
      EXPECT_LE(scratch.steps, 6 * piece.size()) << kind << ", " << n;
    }
  }
}

TEST(Linear, BpeOfOneLetterTakesTheLargestPowers) {
  std::array<int32_t, 256> bytes{};
  std::vector<BpeMerge> merges;
  for (int level = 0; level < 24; ++level) merges.push_back({level, level, level + 1});
  const Bpe bpe(bytes, merges);
  BpeScratch scratch;
  std::vector<int32_t> out;
  bpe.encode(std::string(5'000'000, 'a'), scratch, out);
  size_t length = 0;
  for (const int32_t id : out) length += size_t{1} << id;
  EXPECT_EQ(length, 5'000'000u);
  EXPECT_EQ(out.size(), static_cast<size_t>(std::popcount(5'000'000u)));
}

// Steps of the regex engine: callouts before each item of the pattern.
uint64_t regex_steps(const std::string& pattern, const std::string& text) {
  int error = 0;
  PCRE2_SIZE at = 0;
  const std::string translated = to_pcre2_pattern(pattern);
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_AUTO_CALLOUT, &error, &at, nullptr);
  EXPECT_NE(code, nullptr);
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  uint64_t steps = 0;
  pcre2_set_callout(
      context,
      [](pcre2_callout_block*, void* count) {
        ++*static_cast<uint64_t*>(count);
        return 0;
      },
      &steps);
  for (size_t from = 0; from < text.size(); from = pcre2_get_ovector_pointer(match)[1]) {
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                  PCRE2_NO_UTF_CHECK, match, context);
    if (found < 0) break;
  }
  pcre2_match_context_free(context);
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  return steps;
}

class RegexWork : public ::testing::TestWithParam<const char*> {};

TEST_P(RegexWork, TwiceTheTextIsTwiceTheSteps) {
  const nlohmann::json spec =
      nlohmann::json::parse(read_text_file(golden_folder() / GetParam() / "tokenizer.json"));
  const std::string pattern = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  for (const char* kind : kKinds) {
    const double once = static_cast<double>(regex_steps(pattern, text_of(kind, 30'000)));
    const double twice = static_cast<double>(regex_steps(pattern, text_of(kind, 60'000)));
    EXPECT_GT(once, 1) << kind;
    EXPECT_LT(twice, 2.1 * once + 1000) << kind;  // quadratic work would be 4 times as much
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RegexWork, ::testing::Values("qwen2", "llama3"));

TEST(Linear, FiveMegabytesPass) {
  const Tokenizer t = Tokenizer::load(golden_folder() / "qwen2");
  for (const char* kind : {"no space", "spaces", "words"}) {
    const std::string text = text_of(kind, 5'000'000);
    EXPECT_EQ(t.decode(t.encode(text, false), false), text) << kind;
  }
}

TEST(Linear, NfcOfMarksAloneIsOneSort) {
  // Alternating classes 230 and 220, worst for an insertion sort: 2 x 10^12 moves.
  std::string marks, below, above;
  for (int i = 0; i < 1'250'000; ++i) {
    marks += "\u0301\u0316";
    below += "\u0316";
    above += "\u0301";
  }
  EXPECT_EQ(to_nfc(marks), below + above);
}

TEST(Linear, APatternThatExplodesGivesUp) {
  const Pretokenizer p({"(?:a+a+)+[bc]"});
  expect_error(ErrorCode::kInvalidRequest, "gives up",
               [&] { p.split(std::string(5000, 'a'), [](std::string_view) {}); });
}

}  // namespace
}  // namespace longspan
