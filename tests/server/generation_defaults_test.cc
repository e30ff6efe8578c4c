#include "server/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longspan::server {
namespace {

TEST(GenerationDefaults, AreOpenAisWhereTheModelSaysNothing) {
  for (const char* text : {"", "{}", R"({"eos_token_id":[1,2],"temperature":null})"}) {
    const GenerationDefaults defaults = parse_generation_defaults(text, "file");
    EXPECT_EQ(defaults.sampling.temperature, 1) << text;
    EXPECT_EQ(defaults.sampling.top_p, 1) << text;
    EXPECT_EQ(defaults.sampling.top_k, 0) << text;
    EXPECT_FALSE(defaults.max_new_tokens) << text;
  }
}

TEST(GenerationDefaults, FollowTheModel) {
  const GenerationDefaults defaults = parse_generation_defaults(
      R"({"do_sample":true,"temperature":0.6,"top_p":0.95,"top_k":20,"max_new_tokens":64})", "file");
  EXPECT_EQ(defaults.sampling.temperature, 0.6f);
  EXPECT_EQ(defaults.sampling.top_p, 0.95f);
  EXPECT_EQ(defaults.sampling.top_k, 20);
  EXPECT_EQ(defaults.max_new_tokens, 64);
  EXPECT_EQ(
      parse_generation_defaults(R"({"do_sample":false,"temperature":0.6})", "file").sampling.temperature, 0);
}

TEST(GenerationDefaults, NamesFileAndFieldAtFault) {
  try {
    parse_generation_defaults(R"({"top_p":"high"})", "some/generation_config.json");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnreadable);
    EXPECT_THAT(error.what(), testing::HasSubstr("some/generation_config.json: \"top_p\" must be"));
  }
}

}  // namespace
}  // namespace longspan::server
