#include "cli/batch_format.h"

#include <iterator>
#include <limits>
#include <random>

#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::string& text) {
  const BatchLine line = parse_batch_line(text, 3);
  if (!line.error) return "accepted";
  EXPECT_EQ(line.error->code(), ErrorCode::kInvalidRequest) << text;
  EXPECT_THAT(line.error->what(), testing::StartsWith("line 3: ")) << text;
  EXPECT_EQ(std::string(line.error->what()).find('\n'), std::string::npos);
  return std::string(line.error->what()).substr(8);
}

TEST(BatchFormat, Defaults) {
  const BatchLine line = parse_batch_line(R"({"prompt": "hi"})", 12);
  ASSERT_FALSE(line.error);
  EXPECT_EQ(line.id, "12");
  EXPECT_EQ(std::get<std::string>(line.request.prompt), "hi");
  const SamplingParams& s = line.request.sampling;
  EXPECT_EQ(s.max_tokens, 16);
  EXPECT_EQ(s.temperature, 0);
  EXPECT_EQ(s.top_p, 1);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.seed, 0u);
  EXPECT_TRUE(s.stop.empty());
  EXPECT_FALSE(s.ignore_eos);
  EXPECT_EQ(s.logprobs, -1);
  EXPECT_FALSE(s.prompt_logprobs);
}

TEST(BatchFormat, EveryField) {
  const BatchLine line = parse_batch_line(
      R"({"id":"a","prompt_token_ids":[1,2147483647],"max_tokens":0,"temperature":0.5,"top_p":0.25,"top_k":7,)"
      R"("seed":18446744073709551615,"stop":["x","y"],"ignore_eos":true,"logprobs":2,"prompt_logprobs":true})",
      1);
  ASSERT_FALSE(line.error) << line.error->what();
  EXPECT_EQ(line.id, "a");
  EXPECT_THAT(std::get<std::vector<int32_t>>(line.request.prompt), ElementsAre(1, 2147483647));
  const SamplingParams& s = line.request.sampling;
  EXPECT_EQ(s.max_tokens, 0);
  EXPECT_FLOAT_EQ(s.temperature, 0.5f);
  EXPECT_FLOAT_EQ(s.top_p, 0.25f);
  EXPECT_EQ(s.top_k, 7);
  EXPECT_EQ(s.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(s.stop, ElementsAre("x", "y"));
  EXPECT_TRUE(s.ignore_eos);
  EXPECT_EQ(s.logprobs, 2);
  EXPECT_TRUE(s.prompt_logprobs);
}

TEST(BatchFormat, Messages) {
  const BatchLine line =
      parse_batch_line(R"({"messages":[{"role":"system","content":""},{"content":"q","role":"user"}]})", 1);
  ASSERT_FALSE(line.error) << line.error->what();
  const auto& messages = std::get<std::vector<Message>>(line.request.prompt);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1].role, "user");
  EXPECT_EQ(messages[1].content, "q");
}

TEST(BatchFormat, LogprobsZeroLeavesThemOut) {
  EXPECT_EQ(parse_batch_line(R"({"prompt":"a","logprobs":0})", 1).request.sampling.logprobs, -1);
}

TEST(BatchFormat, NotJson) {
  for (const char* text :
       {"", "x", "{", R"({"prompt":"a"} x)", R"({"prompt":"a",})", R"({"prompt":NaN})", R"({prompt:"a"})",
        "{\"prompt\":\"\xff\"}", R"({"prompt":"\ud800"})", "{\"prompt\":\"a\nb\"}"}) {
    EXPECT_THAT(error_of(text), HasSubstr("not JSON: ")) << text;
  }
  EXPECT_THAT(error_of(R"({"prompt":"a","temperature":1e999})"), HasSubstr("not JSON"));
  EXPECT_THAT(error_of("[1]"), HasSubstr("must be a JSON object, not a list"));
  EXPECT_THAT(error_of("7"), HasSubstr("must be a JSON object, not 7"));
  EXPECT_THAT(error_of(std::string(100000, '[')), HasSubstr("nested deeper than 8 levels"));
  // What was read up to the error is not part of the message.
  EXPECT_LT(error_of("{\"prompt\":\"" + std::string(100000, 'a')).size(), 200u);
}

TEST(BatchFormat, UnknownAndRepeatedFields) {
  EXPECT_EQ(error_of(R"({"prompt":"a","max_token":3})"),
            "unknown field \"max_token\"; did you mean \"max_tokens\"?");
  EXPECT_THAT(error_of(R"({"prompt":"a","frequency_penalty":3})"), HasSubstr("legal: id, prompt"));
  EXPECT_EQ(error_of(R"({"prompt":"a","prompt":"b"})"), "field \"prompt\" is given twice");
  EXPECT_EQ(error_of(R"({"messages":[{"role":"user","content":"a","role":"user"}]})"),
            "field \"role\" is given twice");
}

TEST(BatchFormat, ExactlyOnePrompt) {
  EXPECT_THAT(error_of("{}"),
              HasSubstr("exactly one of prompt, prompt_token_ids, messages is required, not 0"));
  EXPECT_THAT(error_of(R"({"prompt":"a","prompt_token_ids":[1]})"), HasSubstr("required, not 2"));
}

TEST(BatchFormat, WrongTypes) {
  EXPECT_EQ(error_of(R"({"prompt":1})"), "field \"prompt\": must be a string, not 1");
  EXPECT_EQ(error_of(R"({"prompt":null})"), "field \"prompt\": must be a string, not null");
  EXPECT_EQ(error_of(R"({"prompt":""})"), "field \"prompt\": must not be empty");
  EXPECT_EQ(error_of(R"({"prompt":"a","id":7})"), "field \"id\": must be a string, not 7");
  EXPECT_EQ(error_of(R"({"prompt_token_ids":"a"})"),
            "field \"prompt_token_ids\": must be a list of token ids, not a string");
  EXPECT_EQ(error_of(R"({"prompt_token_ids":[]})"), "field \"prompt_token_ids\": must not be empty");
  EXPECT_THAT(error_of(R"({"prompt_token_ids":[1,-1]})"), HasSubstr("field \"prompt_token_ids[1]\""));
  EXPECT_THAT(error_of(R"({"prompt_token_ids":[1.5]})"), HasSubstr("not 1.5"));
  EXPECT_THAT(error_of(R"({"prompt_token_ids":[2147483648]})"),
              HasSubstr("from 0 to 2147483647, not 2147483648"));
  EXPECT_THAT(error_of(R"({"prompt_token_ids":[99999999999999999999999]})"),
              HasSubstr("from 0 to 2147483647"));
  EXPECT_THAT(error_of(R"({"prompt":"a","max_tokens":-1})"),
              HasSubstr("field \"max_tokens\": must be a whole number"));
  EXPECT_THAT(error_of(R"({"prompt":"a","max_tokens":1.5})"), HasSubstr("not 1.5"));
  EXPECT_THAT(error_of(R"({"prompt":"a","max_tokens":"5"})"), HasSubstr("not a string"));
  EXPECT_THAT(error_of(R"({"prompt":"a","max_tokens":true})"), HasSubstr("not true"));
  EXPECT_THAT(error_of(R"({"prompt":"a","temperature":-0.1})"), HasSubstr("must be a number >= 0, not -0.1"));
  EXPECT_THAT(error_of(R"({"prompt":"a","temperature":1e300})"), HasSubstr("must be a number >= 0"));
  EXPECT_THAT(error_of(R"({"prompt":"a","top_p":0})"), HasSubstr("must be a number > 0 and <= 1, not 0"));
  EXPECT_THAT(error_of(R"({"prompt":"a","top_p":1e-300})"), HasSubstr("must be a number > 0 and <= 1"));
  EXPECT_THAT(error_of(R"({"prompt":"a","top_p":1.01})"), HasSubstr("not 1.01"));
  EXPECT_THAT(error_of(R"({"prompt":"a","top_k":-1})"), HasSubstr("\"top_k\""));
  EXPECT_THAT(error_of(R"({"prompt":"a","seed":-1})"), HasSubstr("\"seed\""));
  EXPECT_THAT(error_of(R"({"prompt":"a","stop":"x"})"), HasSubstr("must be a list of strings, not a string"));
  EXPECT_THAT(error_of(R"({"prompt":"a","stop":[""]})"), HasSubstr("field \"stop[0]\": must not be empty"));
  EXPECT_THAT(error_of(R"({"prompt":"a","stop":[1]})"), HasSubstr("field \"stop[0]\": must be a string"));
  EXPECT_THAT(error_of(R"({"prompt":"a","ignore_eos":1})"), HasSubstr("must be true or false, not 1"));
  EXPECT_THAT(error_of(R"({"prompt":"a","logprobs":true})"), HasSubstr("\"logprobs\""));
  EXPECT_THAT(error_of(R"({"prompt":"a","prompt_logprobs":"yes"})"), HasSubstr("must be true or false"));
}

TEST(BatchFormat, BadMessages) {
  EXPECT_THAT(error_of(R"({"messages":[]})"), HasSubstr("field \"messages\": must not be empty"));
  EXPECT_THAT(error_of(R"({"messages":{}})"), HasSubstr("must be a list of {role, content} objects"));
  EXPECT_THAT(error_of(R"({"messages":["a"]})"), HasSubstr("field \"messages[0]\": must be an object"));
  EXPECT_THAT(error_of(R"({"messages":[{"role":"user"}]})"), HasSubstr("\"content\" is missing"));
  EXPECT_THAT(error_of(R"({"messages":[{"role":"user","content":[1]}]})"),
              HasSubstr("field \"messages[0].content\": must be a string, not a list"));
  EXPECT_THAT(error_of(R"({"messages":[{"role":"tool","content":"x"}]})"),
              HasSubstr("must be system, user or assistant, not \"tool\""));
  EXPECT_THAT(error_of(R"({"messages":[{"role":"user","content":"x","name":"y"}]})"),
              HasSubstr("unknown key \"name\""));
}

TEST(BatchFormat, ABadLineKeepsItsId) {
  EXPECT_EQ(parse_batch_line(R"({"id":"mine","prompt":1})", 3).id, "mine");
  EXPECT_EQ(parse_batch_line(R"({"id":5,"prompt":"a"})", 3).id, "3");
  EXPECT_EQ(parse_batch_line("nonsense", 3).id, "3");
}

TEST(BatchFormat, DamagedLinesAreReadOrRefused) {
  const std::string lines[] = {
      R"({"id":"a","prompt_token_ids":[1,22],"max_tokens":0,"temperature":0.5,"top_p":0.25,"seed":18,"stop":["x"]})",
      R"({"messages":[{"role":"system","content":"\u00e9"},{"content":"q","role":"user"}],"ignore_eos":true})",
      R"({"prompt":"é🙂","logprobs":2,"prompt_logprobs":false,"top_k":7})"};
  const std::string pieces[] = {"{", "}",  "[",    "]",   "\"",   ",",          ":",
                                "-", "1e", "null", "\\u", "\xff", "99999999999"};
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = lines[random() % std::size(lines)];
    for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text.erase(at, 1 + random() % 4);
          break;
        case 1:
          text.insert(at, pieces[random() % std::size(pieces)]);
          break;
        default:
          text[at] = static_cast<char>(random());
      }
    }
    const BatchLine line = parse_batch_line(text, 3);
    if (!line.error) continue;
    ++refused;
    ASSERT_THAT(line.error->what(), testing::StartsWith("line 3: ")) << text;
  }
  EXPECT_GT(refused, 10000);
}

TEST(BatchFormat, ResultLine) {
  Result result;
  result.text = "a\"\n\xff";
  result.token_ids = {5, 6};
  result.finish_reason = FinishReason::kStop;
  result.logprobs = {{5, -0.1f, {{5, -0.1f}, {9, -2.5f}}}, {6, -1, {}}};
  result.prompt_logprobs = {std::nullopt, -0.3f, -std::numeric_limits<float>::infinity()};
  result.prompt_tokens = 3;
  result.cached_tokens = 1;
  result.ttft_ms = 1.23456;
  SamplingParams sampling;
  EXPECT_EQ(format_batch_result("x", sampling, result),
            R"({"id":"x","text":"a\"\n)"
            "\xEF\xBF\xBD"
            R"(","token_ids":[5,6],"finish_reason":"stop","usage":{"prompt_tokens":3,"cached_tokens":1,)"
            R"("completion_tokens":2},"timing":{"ttft_ms":1.235,"prefill_ms":0,"decode_ms":0}})");
  sampling.logprobs = 2;
  sampling.prompt_logprobs = true;
  const std::string line = format_batch_result("x", sampling, result);
  EXPECT_EQ(
      json_at(line, "/logprobs"),
      R"([{"logprob":-0.1,"token_id":5,"top":[[5,-0.1],[9,-2.5]]},{"logprob":-1,"token_id":6,"top":[]}])");
  EXPECT_EQ(json_at(line, "/prompt_logprobs"), "[null,-0.3,null]");
}

TEST(BatchFormat, ErrorLine) {
  const std::string line = format_batch_error("7", ErrorCode::kCapacity, "too \"big\"");
  EXPECT_EQ(json_at(line, "/id"), "\"7\"");
  EXPECT_EQ(json_at(line, "/finish_reason"), "\"error\"");
  EXPECT_EQ(json_at(line, "/error/code"), "\"capacity\"");
  EXPECT_EQ(json_at(line, "/error/message"), R"("too \"big\"")");
  EXPECT_EQ(json_at(line, "/token_ids"), "[]");
}

}  // namespace
}  // namespace longspan::cli
