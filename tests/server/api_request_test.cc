#include "server/api_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api_error.h"

namespace longspan::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GenerationRequest completion(const std::string& fields) {
  return parse_completion("{\"model\":\"m\",\"prompt\":\"p\"" + fields + "}", {});
}
GenerationRequest chat(const std::string& fields) {
  return parse_chat(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + fields + "}", {});
}

std::string texts(const std::vector<Prompt>& prompts) {
  std::string all;
  for (const Prompt& prompt : prompts) {
    if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
      for (const int32_t id : *ids) all += std::to_string(id) + ",";
    } else {
      all += std::get<std::string>(prompt);
    }
    all += "|";
  }
  return all;
}

/// "param: message" of the refusal.
template <class F>
std::string refusal(F parse) {
  try {
    parse();
    return "accepted";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.type, "invalid_request_error");
    return error.param.value_or("(none)") + ": " + error.message;
  }
}
std::string completion_refusal(const std::string& fields) {
  return refusal([&] { completion(fields); });
}
std::string chat_refusal(const std::string& fields) {
  return refusal([&] { chat(fields); });
}
std::string body_refusal(const std::string& body) {
  return refusal([&] { parse_completion(body, {}); });
}

TEST(ApiRequest, ASaltIsATextWithinReason) {
  EXPECT_EQ(completion("").cache_salt, "");
  EXPECT_EQ(completion(R"(,"cache_salt":"team a")").cache_salt, "team a");
  EXPECT_EQ(chat(R"(,"cache_salt":null)").cache_salt, "");
  EXPECT_THAT(completion_refusal(R"(,"cache_salt":"")"), HasSubstr("cache_salt: "));
  EXPECT_THAT(chat_refusal(R"(,"cache_salt":7)"), HasSubstr("cache_salt: "));
  EXPECT_THAT(chat_refusal(",\"cache_salt\":\"" + std::string(257, 'x') + "\""), HasSubstr("1 to 256 bytes"));
}

TEST(ApiRequest, ReadsACompletion) {
  const GenerationRequest request = completion(
      R"(,"max_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":3,"seed":11,"n":2,"best_of":2,"stop":"x","logprobs":4,
      "echo":true,"ignore_eos":true,"user":"u","suffix":null)");
  EXPECT_FALSE(request.chat);
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(texts(request.prompts), "p|");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.seed, 11u);
  EXPECT_EQ(request.n, 2);
  EXPECT_TRUE(request.echo);
  EXPECT_FALSE(request.stream);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.9f);
  EXPECT_EQ(request.sampling.top_k, 3);
  EXPECT_THAT(request.sampling.stop, ElementsAre("x"));
  EXPECT_EQ(request.sampling.logprobs, 4);
  EXPECT_TRUE(request.sampling.prompt_logprobs);
  EXPECT_TRUE(request.sampling.ignore_eos);
}

TEST(ApiRequest, ReadsEveryFormOfPrompt) {
  const auto prompts = [](const std::string& prompt) {
    return parse_completion("{\"model\":\"m\",\"prompt\":" + prompt + "}", {}).prompts;
  };
  EXPECT_EQ(texts(prompts(R"(["a","b"])")), "a|b|");
  EXPECT_EQ(texts(prompts("[1,2]")), "1,2,|");
  EXPECT_EQ(texts(prompts("[[1],[2,3]]")), "1,|2,3,|");
}

TEST(ApiRequest, ReadsAChat) {
  const GenerationRequest request = parse_chat(
      R"({"model":"m","messages":[{"role":"developer","content":"d"},
          {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
          "max_completion_tokens":5,"logprobs":true,"top_logprobs":2,"stream":true,
          "stream_options":{"include_usage":true},"stop":["x","y"],"seed":-1,"top_k":-1,"store":false})",
      {});
  EXPECT_TRUE(request.chat);
  const auto& messages = std::get<std::vector<Message>>(request.prompts.at(0));
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "a\nb");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.sampling.logprobs, 2);
  EXPECT_TRUE(request.stream);
  EXPECT_TRUE(request.include_usage);
  EXPECT_EQ(request.seed, ~uint64_t{0});
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_THAT(request.sampling.stop, ElementsAre("x", "y"));
  EXPECT_EQ(chat(R"(,"logprobs":true)").sampling.logprobs, 0);
  EXPECT_EQ(chat(R"(,"logprobs":false)").sampling.logprobs, -1);
}

TEST(ApiRequest, DefaultsAreTheModels) {
  GenerationDefaults defaults;
  defaults.sampling.temperature = 0.6f;
  defaults.sampling.top_k = 20;
  const GenerationRequest plain = parse_completion(R"({"model":"m","prompt":"p"})", defaults);
  EXPECT_EQ(plain.sampling.temperature, 0.6f);
  EXPECT_EQ(plain.sampling.top_k, 20);
  EXPECT_EQ(plain.sampling.logprobs, -1);
  EXPECT_FALSE(plain.max_tokens);
  EXPECT_FALSE(plain.seed);
  EXPECT_EQ(
      parse_completion(R"({"model":"m","prompt":"p","temperature":null})", defaults).sampling.temperature,
      0.6f);
  EXPECT_EQ(parse_completion(R"({"model":"m","prompt":"p","temperature":0})", defaults).sampling.temperature,
            0);
}

TEST(ApiRequest, NamesTheFieldAtFault) {
  EXPECT_EQ(completion_refusal(R"(,"max_token":1)"),
            "max_token: unknown field \"max_token\"; did you mean \"max_tokens\"?");
  EXPECT_THAT(completion_refusal(R"(,"zzzzzzzzzzzz":1)"),
              HasSubstr("zzzzzzzzzzzz: unknown field \"zzzzzzzzzzzz\"; legal: "));
  EXPECT_EQ(completion_refusal(R"(,"max_tokens":"7")"),
            "max_tokens: \"max_tokens\" must be a whole number >= 0, not a string");
  EXPECT_EQ(completion_refusal(R"(,"max_tokens":-1)"),
            "max_tokens: \"max_tokens\" must be a whole number >= 0, not -1");
  EXPECT_EQ(completion_refusal(R"(,"max_tokens":1.5)"),
            "max_tokens: \"max_tokens\" must be a whole number >= 0, not 1.5");
  EXPECT_EQ(completion_refusal(R"(,"max_tokens":9999999999)"),
            "max_tokens: \"max_tokens\" must be a whole number >= 0, not 9999999999");
  EXPECT_EQ(completion_refusal(R"(,"top_p":1.1)").substr(0, 6), "top_p:");
  EXPECT_EQ(completion_refusal(R"(,"top_p":0)").substr(0, 6), "top_p:");
  EXPECT_EQ(completion_refusal(R"(,"temperature":-0.1)").substr(0, 12), "temperature:");
  EXPECT_EQ(completion_refusal(R"(,"temperature":true)").substr(0, 12), "temperature:");
  EXPECT_EQ(completion_refusal(R"(,"stop":["a",3])").substr(0, 8), "stop[1]:");
  EXPECT_EQ(completion_refusal(R"(,"stop":"")"), "stop: \"stop\" must have no empty string");
  EXPECT_EQ(completion_refusal(R"(,"stream":"yes")"),
            "stream: \"stream\" must be true or false, not a string");
  EXPECT_EQ(completion_refusal(R"(,"n":0)").substr(0, 2), "n:");
  EXPECT_EQ(completion_refusal(R"(,"n":129)"), "n: \"n\" must be a whole number from 1 to 128, not 129");
  EXPECT_EQ(completion_refusal(R"(,"best_of":3)").substr(0, 8), "best_of:");
  EXPECT_EQ(completion_refusal(R"(,"suffix":"x")"), "suffix: \"suffix\" is not supported; leave it out");
  EXPECT_EQ(completion_refusal(R"(,"logprobs":true)").substr(0, 9), "logprobs:");
  EXPECT_EQ(completion_refusal(R"(,"stream_options":{"include_usage":true})").substr(0, 15),
            "stream_options:");
  EXPECT_EQ(completion_refusal(R"(,"stream":true,"stream_options":{"usage":true})").substr(0, 21),
            "stream_options.usage:");
  EXPECT_EQ(completion_refusal(R"(,"stream":true,"echo":true,"logprobs":0)").substr(0, 5), "echo:");
  EXPECT_EQ(chat_refusal(R"(,"top_logprobs":2)"), "top_logprobs: \"top_logprobs\" needs \"logprobs\": true");
  EXPECT_EQ(chat_refusal(R"(,"logprobs":true,"top_logprobs":21)").substr(0, 13), "top_logprobs:");
  EXPECT_EQ(chat_refusal(R"(,"max_tokens":1,"max_completion_tokens":1)").substr(0, 11), "max_tokens:");
  EXPECT_EQ(chat_refusal(R"(,"prompt":"x")").substr(0, 7), "prompt:");
  EXPECT_EQ(chat_refusal(R"(,"store":true)").substr(0, 6), "store:");
}

TEST(ApiRequest, NamesTheMessageAtFault) {
  const auto messages = [](const std::string& list) {
    return refusal([&] { parse_chat("{\"model\":\"m\",\"messages\":" + list + "}", {}); });
  };
  EXPECT_EQ(messages("[]"), "messages: \"messages\" must not be empty");
  EXPECT_EQ(messages("\"hi\"").substr(0, 9), "messages:");
  EXPECT_EQ(messages("[1]").substr(0, 12), "messages[0]:");
  EXPECT_EQ(messages(R"([{"role":"user"}])"), "messages[0].content: \"messages[0].content\" is missing");
  EXPECT_EQ(
      messages(R"([{"role":"user","content":"a"},{"role":"tool","content":"b"}])"),
      "messages[1].role: \"messages[1].role\" is \"tool\"; it must be system, developer, user or assistant");
  EXPECT_EQ(messages(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])").substr(0, 28),
            "messages[0].content[0].type:");
  EXPECT_EQ(messages(R"([{"role":"user","content":"a","name":"n"}])").substr(0, 17), "messages[0].name:");
}

TEST(ApiRequest, RefusesWhatIsNoRequest) {
  EXPECT_THAT(body_refusal(""), HasSubstr("the body is empty"));
  EXPECT_THAT(body_refusal("{"), HasSubstr("the body is not JSON"));
  EXPECT_THAT(body_refusal("[]"), HasSubstr("must be a JSON object, not a list"));
  EXPECT_THAT(body_refusal(R"({"prompt":"p"})"), HasSubstr("model: \"model\" is missing"));
  EXPECT_THAT(body_refusal(R"({"model":"m"})"), HasSubstr("prompt: \"prompt\" is missing"));
  EXPECT_THAT(body_refusal(R"({"model":"m","model":"m","prompt":"p"})"),
              HasSubstr("model: \"model\" is given twice"));
  EXPECT_THAT(body_refusal(R"({"model":"m","prompt":[]})"),
              HasSubstr("prompt: \"prompt\" must not be empty"));
  EXPECT_THAT(body_refusal(R"({"model":"m","prompt":[1,"a"]})"), HasSubstr("prompt[1]:"));
  EXPECT_THAT(body_refusal(R"({"model":"m","prompt":[[1],[-1]]})"), HasSubstr("prompt[1][0]:"));
  EXPECT_THAT(body_refusal(R"({"model":"m","prompt":["a","b"],"n":65})"),
              HasSubstr("n: 2 prompts with n 65 make 130"));
  EXPECT_THAT(body_refusal("{\"model\":\"\xff\"}"), HasSubstr("the body is not JSON"));
  EXPECT_THAT(body_refusal(R"({"model":1e999})"), HasSubstr("out of range"));
  EXPECT_THAT(body_refusal(std::string(100, '[')), HasSubstr("nested deeper than 64 levels"));
  EXPECT_THAT(body_refusal(std::string(1 << 20, '[')), HasSubstr("nested deeper than 64 levels"));
}

TEST(ApiRequest, TokenizeTakesOnePrompt) {
  EXPECT_EQ(texts({parse_tokenize(R"({"prompt":""})").prompt}), "|");
  EXPECT_EQ(parse_tokenize(R"({"model":"m","prompt":"a"})").model, "m");
  EXPECT_EQ(refusal([] { parse_tokenize("{}"); }).substr(0, 7), "prompt:");
  EXPECT_EQ(refusal([] {
              parse_tokenize(R"({"prompt":"a","messages":[{"role":"user","content":"b"}]})");
            }).substr(0, 7),
            "prompt:");
  EXPECT_THAT(parse_detokenize(R"({"tokens":[1,2]})").tokens, ElementsAre(1, 2));
  EXPECT_THAT(parse_detokenize(R"({"tokens":[]})").tokens, ElementsAre());
  EXPECT_EQ(refusal([] { parse_detokenize(R"({"tokens":[1,-2]})"); }).substr(0, 10), "tokens[1]:");
  EXPECT_EQ(refusal([] { parse_detokenize("{}"); }).substr(0, 7), "tokens:");
}

TEST(ApiRequest, ASchemaIsReadAsItIsAndNotTooLong) {
  const auto asking = [](const std::string& schema) {
    return R"(,"response_format":{"type":"json_schema","json_schema":{"strict":true,"schema":)" + schema +
           R"(,"name":"n"}},"stop":["x"])";
  };
  const std::string schema = R"({"schema":[{"response_format":1}],"json_schema":{"schema":{"z":1,"a":{}}}})";
  EXPECT_EQ(chat(asking(schema)).sampling.json_schema, schema);
  EXPECT_EQ(chat(asking("true")).sampling.json_schema, "true");
  const auto titled = [](size_t length) { return "{\"title\":\"" + std::string(length, 'x') + "\"}"; };
  EXPECT_EQ(chat(asking(titled(65'524))).sampling.json_schema, titled(65'524));
  EXPECT_EQ(
      refusal([&] { chat(asking(titled(65'525))); }),
      "response_format.json_schema.schema: \"response_format.json_schema.schema\" has 65537 bytes; it may "
      "have at most 65536");
}

TEST(ApiRequest, ASchemaKeepsTheOrderOfItsMembers) {
  const GenerationRequest request = parse_chat(
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":
      {"name":"n","schema":{"properties":{"z":{"type":"null"},"a":{"type":"null"}}}}}})",
      {});
  EXPECT_EQ(request.sampling.json_schema, R"({"properties":{"z":{"type":"null"},"a":{"type":"null"}}})");
}

}  // namespace
}  // namespace longspan::server
