// Token ids, special tokens and decoding against the `tokenizers` package
// (tools/goldens/make_tokenizer_goldens.py).
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text_test_util.h"

namespace longspan {
namespace {

using Ids = std::vector<int32_t>;

void expect_golden(const Tokenizer& tokenizer, const nlohmann::json& golden) {
  const nlohmann::json corpus = read_golden("corpus.json");
  ASSERT_EQ(corpus.size(), golden["ids"].size());
  ASSERT_GT(corpus.size(), 200u);
  for (size_t i = 0; i < corpus.size(); ++i) {
    const std::string text = from_hex(corpus[i]["hex"]);
    EXPECT_EQ(tokenizer.encode(text, false), golden["ids"][i].get<Ids>()) << corpus[i]["name"];
  }
  EXPECT_EQ(tokenizer.vocab_size(), golden["vocab_size"].get<int32_t>());
  EXPECT_EQ(tokenizer.encode("", true), golden["empty_with_special"].get<Ids>());
  EXPECT_EQ(tokenizer.encode("word", true), golden["word_with_special"].get<Ids>());
  for (const nlohmann::json& row : golden["decoded"]) {
    EXPECT_EQ(tokenizer.decode(row["ids"].get<Ids>(), false), row["all"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(row["ids"].get<Ids>(), true), row["skip"].get<std::string>());
  }
}

class TokenizerGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, IdsAndTextsAreThoseOfTheTokenizersPackage) {
  const std::string name = GetParam();
  expect_golden(Tokenizer::load(golden_folder() / name), read_golden(name + ".golden.json"));
}

TEST_P(TokenizerGolden, PiecesAreThoseOfTheTokenizersPackage) {
  const std::string name = GetParam();
  const std::string path = (golden_folder() / name / "tokenizer.json").string();
  const Pretokenizer pretokenizer(parse_tokenizer_json(read_text_file(path), path).split_patterns);
  const nlohmann::json corpus = read_golden("corpus.json");
  const nlohmann::json golden = read_golden(name + ".golden.json")["pieces"];
  ASSERT_EQ(corpus.size(), golden.size());
  for (size_t i = 0; i < corpus.size(); ++i) {
    std::vector<size_t> bytes;
    pretokenizer.split(replace_invalid_utf8(from_hex(corpus[i]["hex"])),
                       [&](std::string_view piece) { bytes.push_back(piece.size()); });
    EXPECT_EQ(bytes, golden[i].get<std::vector<size_t>>()) << corpus[i]["name"];
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden, ::testing::Values("qwen2", "llama3", "gpt2", "odd"));

TEST(RecallModelTokenizer, IdsAndTextsAreThoseOfTheTokenizersPackage) {
  const auto folder = std::filesystem::path(LONGSPAN_SOURCE_DIR) / "models/recall-moe";
  const nlohmann::json golden = read_golden("recall-moe.golden.json");
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : read_text_file(folder / "tokenizer.json")) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  char hex[17];
  std::snprintf(hex, sizeof(hex), "%016llx", static_cast<unsigned long long>(hash));
  ASSERT_EQ(hex, golden["fnv1a"].get<std::string>())
      << "models/recall-moe/tokenizer.json changed: run tools/goldens/make_tokenizer_goldens.py again";
  expect_golden(Tokenizer::load(folder), golden);
}

TEST(Tokenizer, TellsTokensAndIds) {
  const Tokenizer t = Tokenizer::load(golden_folder() / "qwen2");
  const int32_t end = t.token_to_id("<|im_end|>");
  ASSERT_GE(end, 0);
  EXPECT_TRUE(t.is_special(end));
  EXPECT_FALSE(t.is_special(t.token_to_id("<tool_call>")));
  EXPECT_EQ(t.token_bytes(end), "<|im_end|>");
  EXPECT_EQ(t.token_bytes(t.token_to_id("Ġ")), " ");
  EXPECT_EQ(t.token_bytes(t.token_to_id("Ã")), "\xc3");
  EXPECT_EQ(t.token_to_id("no such token"), -1);
  for (const int32_t id : {-1, INT32_MIN, INT32_MAX, t.vocab_size()}) {
    EXPECT_EQ(t.token_bytes(id), "");
    EXPECT_FALSE(t.is_special(id));
    EXPECT_EQ(t.decode(Ids{id, end, id}, false), "<|im_end|>");
  }
}

}  // namespace
}  // namespace longspan
