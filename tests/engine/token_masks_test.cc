#include "engine/token_masks.h"

#include <gtest/gtest.h>

#include <thread>

#include "grammar/json_schema.h"

namespace longspan {
namespace {

std::string schema(size_t length) {
  return R"({"maxLength": )" + std::to_string(length) + "}";
}

class TokenMasksTest : public testing::Test {
 protected:
  const Tokenizer tokenizer_ = Tokenizer::load(LONGSPAN_SOURCE_DIR "/models/recall-moe");
};

TEST_F(TokenMasksTest, KeepsTheGrammarsOfTheLastFewSchemas) {
  TokenMasks masks(tokenizer_, {0});
  EXPECT_EQ(masks.make(""), nullptr);
  EXPECT_EQ(masks.prepare(schema(1)), masks.prepare(schema(1)));
  EXPECT_NE(masks.prepare(schema(1)), masks.prepare(schema(2)));
  EXPECT_NE(masks.make(schema(1)), nullptr);
  const auto first = masks.prepare(schema(1));
  for (size_t i = 2; i <= TokenMasks::kMostKept; ++i) masks.prepare(schema(i));
  EXPECT_EQ(masks.prepare(schema(1)), first);
  masks.prepare(schema(TokenMasks::kMostKept + 1));
  EXPECT_NE(masks.prepare(schema(1)), first);  // made anew
}

TEST_F(TokenMasksTest, RefusesAModelThatNeverEnds) {
  TokenMasks masks(tokenizer_, {});
  EXPECT_EQ(masks.make(""), nullptr);
  try {
    masks.make(schema(1));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_NE(std::string(error.what()).find("eos_token_id"), std::string::npos) << error.what();
  }
  EXPECT_THROW(TokenMasks(tokenizer_, {0}).make("{"), SchemaError);
}

TEST_F(TokenMasksTest, MakesMasksFromSeveralThreads) {
  TokenMasks masks(tokenizer_, {0});
  std::vector<int> may_come(4);
  std::vector<std::thread> threads;
  for (int& count : may_come) {
    threads.emplace_back([&] {
      for (size_t i = 1; i < 40; ++i) {
        std::vector<float> logits(static_cast<size_t>(tokenizer_.vocab_size()));
        masks.make(schema(i))->apply(logits);
        for (const float logit : logits) count += logit == 0.0f;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(may_come[0], 39);
  for (const int count : may_come) EXPECT_EQ(count, may_come[0]);
}

}  // namespace
}  // namespace longspan
