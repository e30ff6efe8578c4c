// Files that are not what the engine reads: each is refused, with the field's name.
#include <cstdlib>
#include <fstream>
#include <string>

#include "text/byte_level.h"
#include "text/tokenizer.h"
#include "text_test_util.h"

namespace longspan {
namespace {

using nlohmann::json;

// 256 byte tokens, "ab" = 256, one special token, GPT-2's pre-tokeniser.
json minimal() {
  json vocab = json::object();
  for (int b = 0; b < 256; ++b) {
    const char c = static_cast<char>(b);
    vocab[to_byte_level({&c, 1})] = b;
  }
  vocab["ab"] = 256;
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 257}, {"content", "<s>"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b"}}}}};
}

struct Change {
  const char* pointer;  // where in minimal(); "-" at the end appends
  const char* value;    // JSON, or null to take it away
  const char* part;     // of the message
};

void expect_refused(ErrorCode code, const Change& change) {
  SCOPED_TRACE(std::string(change.pointer) + " = " + (change.value == nullptr ? "(absent)" : change.value));
  json spec = minimal();
  const json::json_pointer at(change.pointer);
  if (change.value == nullptr) {
    spec[at.parent_pointer()].erase(at.back());
  } else {
    spec[at] = json::parse(change.value);
  }
  expect_error(code, change.part, [&] { Tokenizer::parse(spec.dump()); });
}

TEST(TokenizerJson, TheMinimalFileIsRead) {
  const Tokenizer t = Tokenizer::parse(minimal().dump());
  EXPECT_EQ(t.encode("abc<s>", false), (std::vector<int32_t>{256, 'c', 257}));
  json spec = minimal();
  for (const char* key : {"added_tokens", "normalizer", "post_processor", "version"}) spec.erase(key);
  EXPECT_EQ(Tokenizer::parse(spec.dump()).vocab_size(), 257);
}

TEST(TokenizerJson, MalformedFieldsAreNamed) {
  const Change changes[] = {
      {"/model", nullptr, "model is missing"},
      {"/model", "7", "model must be an object"},
      {"/model/type", "7", "model.type must be a string"},
      {"/model/vocab", nullptr, "model.vocab is missing"},
      {"/model/vocab", "[]", "model.vocab must be an object"},
      {"/model/vocab/x", "-1", "model.vocab[\"x\"] must be a token id from 0"},
      {"/model/vocab/x", "1e9", "model.vocab[\"x\"]"},
      {"/model/vocab/x", "99999999999999999999", "model.vocab[\"x\"]"},
      {"/model/vocab/x", "4294967296", "model.vocab[\"x\"]"},
      {"/model/vocab/x", "2000000", "model.vocab[\"x\"]"},
      {"/model/vocab/x", "1.5", "model.vocab[\"x\"]"},
      {"/model/vocab/x", "\"1\"", "model.vocab[\"x\"]"},
      {"/model/vocab/new", "7", "another token has this id"},
      {"/model/merges", nullptr, "model.merges is missing"},
      {"/model/merges", "{}", "model.merges must be an array"},
      {"/model/merges/0", "\"a b c\"", "model.merges[0]"},
      {"/model/merges/0", "\"ab\"", "model.merges[0]"},
      {"/model/merges/0", "[\"a\"]", "model.merges[0]"},
      {"/model/merges/0", "[\"a\", 1]", "model.merges[0]"},
      {"/model/merges/0", "null", "model.merges[0]"},
      {"/model/merges/0", "\"a c\"", "model.merges[0] \"ac\" is not in the vocabulary"},
      {"/model/merges/0", "[\"\", \"\"]", "model.merges[0] \"\" is not in the vocabulary"},
      {"/model/ignore_merges", "1", "model.ignore_merges must be true or false"},
      {"/added_tokens", "{}", "added_tokens must be an array"},
      {"/added_tokens/0", "7", "added_tokens[0] must be an object"},
      {"/added_tokens/0/id", nullptr, "added_tokens[0].id is missing"},
      {"/added_tokens/0/id", "-5", "added_tokens[0].id"},
      {"/added_tokens/0/id", "7", "added_tokens[0].id = 7: another token has this id"},
      {"/added_tokens/0/content", nullptr, "added_tokens[0].content is missing"},
      {"/added_tokens/0/content", "\"\"", "added_tokens[0].content is empty"},
      {"/added_tokens/0/content", "\"ab\"", "added_tokens[0].id = 257, but model.vocab has \"ab\" = 256"},
      {"/added_tokens/0/special", "\"yes\"", "added_tokens[0].special must be true or false"},
      {"/added_tokens/-", R"({"id": 300, "content": "<s>"})",
       "added_tokens[1].content \"<s>\" appears twice"},
      {"/added_tokens/-", R"({"id": 257, "content": "<t>"})", "added_tokens[1].id"},
      {"/normalizer", "\"NFC\"", "normalizer must be an object"},
      {"/normalizer", "{}", "normalizer.type is missing"},
      {"/normalizer", R"({"type": "Sequence"})", "normalizer.normalizers is missing"},
      {"/pre_tokenizer", "[]", "pre_tokenizer must be an object"},
      {"/pre_tokenizer/use_regex", "\"x\"", "pre_tokenizer.use_regex"},
      {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Split"}]})",
       "pre_tokenizer.pretokenizers[0].pattern is missing"},
      {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": 1},
         "behavior": "Isolated"}]})",
       "pre_tokenizer.pretokenizers[0].pattern.Regex must be a string"},
      {"/post_processor", R"({"type": "TemplateProcessing"})", "post_processor.single is missing"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": []})",
       "post_processor.single has no sequence A"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]})",
       "post_processor.special_tokens is missing"},
      {"/post_processor",
       R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
          "special_tokens": {"<s>": {"ids": [999]}}})",
       "post_processor.special_tokens[\"<s>\"].ids = 999: no token has this id"},
      {"/decoder", "true", "decoder must be an object"},
  };
  for (const Change& change : changes) expect_refused(ErrorCode::kUnreadable, change);
}

TEST(TokenizerJson, OtherKindsAreRefusedByName) {
  const Change changes[] = {
      {"/model/type", "\"Unigram\"", "model.type \"Unigram\""},
      {"/model/dropout", "0.1", "model.dropout"},
      {"/model/unk_token", "\"<unk>\"", "model.unk_token"},
      {"/model/byte_fallback", "true", "model.byte_fallback"},
      {"/model/continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix"},
      {"/model/end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix"},
      {"/model/vocab/!", nullptr, "byte 0x21"},
      {"/added_tokens/0/single_word", "true", "added_tokens[0].single_word"},
      {"/normalizer", R"({"type": "Lowercase"})", "normalizer of type \"Lowercase\""},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]})",
       "normalizer.normalizers[1] of type \"NFKC\""},
      {"/pre_tokenizer", "null", "pre_tokenizer"},
      {"/pre_tokenizer", R"({"type": "Metaspace"})", "pre_tokenizer of type \"Metaspace\""},
      {"/pre_tokenizer/add_prefix_space", "true", "pre_tokenizer.add_prefix_space"},
      {"/pre_tokenizer/add_prefix_space", nullptr, "pre_tokenizer.add_prefix_space"},
      {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": []})", "without ByteLevel"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"})",
       "\"Regex\""},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": " "}, "behavior": "Removed"})",
       "behavior \"Removed\""},
      {"/pre_tokenizer",
       R"({"type": "Split", "pattern": {"Regex": " "}, "behavior": "Isolated", "invert": true})", "invert"},
      {"/post_processor", R"({"type": "RobertaProcessing"})", "post_processor of type \"RobertaProcessing\""},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})",
       "sequence A"},
      {"/decoder", R"({"type": "Metaspace"})", "decoder of type \"Metaspace\""},
      {"/decoder", "null", "decoder"},
  };
  for (const Change& change : changes) expect_refused(ErrorCode::kNotSupported, change);
}

TEST(TokenizerJson, EveryTruncationIsRefused) {
  const std::string whole = minimal().dump();
  for (size_t size = 0; size < whole.size(); size += 7) {
    expect_error(ErrorCode::kUnreadable, "tokenizer.json", [&] { Tokenizer::parse(whole.substr(0, size)); });
  }
}

TEST(TokenizerJson, DeepNestingDoesNotOverflowTheStack) {
  constexpr size_t kDepth = 1'000'000;
  const std::string open(kDepth, '['), close(kDepth, ']');
  expect_error(ErrorCode::kUnreadable, "JSON", [&] { Tokenizer::parse(open); });
  expect_error(ErrorCode::kUnreadable, "must be an object", [&] { Tokenizer::parse(open + close); });
  expect_error(ErrorCode::kUnreadable, "model must be an object",
               [&] { Tokenizer::parse("{\"model\":" + open + close + "}"); });
  json nested = {{"type", "NFC"}};
  for (int i = 0; i < 3; ++i) nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
  json spec = minimal();
  spec["normalizer"] = nested;
  expect_error(ErrorCode::kNotSupported, "normalizer.normalizers[0] of type \"Sequence\"",
               [&] { Tokenizer::parse(spec.dump()); });
}

TEST(TokenizerJson, NotJsonIsOneLine) {
  expect_error(ErrorCode::kUnreadable, "JSON", [] { Tokenizer::parse("{\n\"model\": \xff\n}"); });
  expect_error(ErrorCode::kUnreadable, "JSON", [] { Tokenizer::parse(std::string("{\"a\": \"\n\"}")); });
  expect_error(ErrorCode::kUnreadable, "must be an object", [] { Tokenizer::parse("3"); });
}

TEST(TokenizerJson, AMissingFileIsNamed) {
  expect_error(ErrorCode::kUnreadable, "/no/such/folder/tokenizer.json: No such file",
               [] { Tokenizer::load("/no/such/folder"); });
}

TEST(TokenizerJson, MessagesNameTheFileThatWasRead) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "longspan_tokenizer_json";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json") << "{}";
  expect_error(ErrorCode::kUnreadable, (folder / "tokenizer.json").string() + ": model is missing",
               [&] { Tokenizer::load(folder); });
  std::filesystem::remove(folder / "tokenizer.json");
  std::filesystem::create_directories(folder / "tokenizer.json");
  expect_error(ErrorCode::kUnreadable, "Is a directory", [&] { Tokenizer::load(folder); });
  std::filesystem::remove_all(folder);
}

TEST(TokenizerJson, ALaterMergeOfThePairWins) {
  json spec = minimal();
  spec["model"]["vocab"]["bc"] = 300;
  spec["model"]["merges"] = {"a b", "b c", "a b"};  // the pair a b now has rank 2
  EXPECT_EQ(Tokenizer::parse(spec.dump()).encode("abc", false), (std::vector<int32_t>{'a', 300}));
}

}  // namespace
}  // namespace longspan
