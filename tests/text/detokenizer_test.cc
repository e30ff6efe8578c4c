#include "text/detokenizer.h"

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text_test_util.h"

namespace longspan {
namespace {

std::vector<int32_t> random_ids(const Tokenizer& t, std::mt19937& rng, size_t count) {
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng() % static_cast<uint32_t>(t.vocab_size() + 3)) - 1;
  return ids;
}

class Detokenize : public ::testing::TestWithParam<const char*> {};

TEST_P(Detokenize, PiecesAreWholeCharactersAndJoinToTheDecodedText) {
  const Tokenizer t = Tokenizer::load(golden_folder() / GetParam());
  std::mt19937 rng(11);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<int32_t> ids = random_ids(t, rng, rng() % 24);
    Detokenizer d(t);
    std::string joined;
    for (const int32_t id : ids) {
      const std::string piece = d.push(id);
      ASSERT_EQ(replace_invalid_utf8(piece), piece);
      joined += piece;
    }
    const std::string rest = d.finish();
    ASSERT_LE(rest.size(), 3u);  // at most one U+FFFD
    ASSERT_EQ(joined + rest, t.decode(ids, true));
    ASSERT_EQ(d.finish(), "");
  }
}

TEST_P(Detokenize, TextSurvivesEncodingAndComesAsSoonAsItIsWhole) {
  const Tokenizer t = Tokenizer::load(golden_folder() / GetParam());
  for (const nlohmann::json& entry : read_golden("corpus.json")) {
    const std::string text = replace_invalid_utf8(from_hex(entry["hex"]));
    const std::vector<int32_t> ids = t.encode(text, false);
    Detokenizer d(t);
    std::string bytes, shown;
    for (const int32_t id : ids) {
      shown += d.push(id);
      if (!t.is_special(id)) bytes += t.token_bytes(id);
      ASSERT_LE(bytes.size() - std::min(bytes.size(), shown.size()), 3u) << entry["name"];
    }
    EXPECT_EQ(shown, bytes) << entry["name"];
    EXPECT_EQ(d.finish(), "") << entry["name"];
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Detokenize, ::testing::Values("qwen2", "llama3", "gpt2"));

TEST(DetokenizerOne, KeepsBackHalfACharacterOnly) {
  const Tokenizer t = Tokenizer::load(golden_folder() / "gpt2");
  const auto byte = [&](const char* token) { return t.token_to_id(token); };  // byte-level spelling
  Detokenizer d(t);
  EXPECT_EQ(d.push(byte("ð")), "");  // F0 9F 98 80
  EXPECT_EQ(d.push(byte("Ł")), "");
  EXPECT_EQ(d.push(byte("ĺ")), "");
  EXPECT_EQ(d.push(byte("Ģ")), "😀");
  EXPECT_EQ(d.push(byte("ð")), "");
  EXPECT_EQ(d.push(byte("a")),
            "\xef\xbf\xbd"
            "a");
  EXPECT_EQ(d.push(byte("ä")), "");  // E4, then the end
  EXPECT_EQ(d.push(t.token_to_id("<|endoftext|>")), "");
  EXPECT_EQ(d.finish(), "\xef\xbf\xbd");
}

}  // namespace
}  // namespace longspan
