#include "grammar/token_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "grammar/json_schema.h"

namespace longspan {
namespace {

const std::vector<std::string> kTokens = {"",  "{",    "}",   "\"", "{\"", "{\"a", "{\"a\":", "\"a\"",
                                          "a", "ab",   "abc", "1",  "12",  "12}",  ":",       ": ",
                                          ",", "true", "tru", "e}", "e",   "t",    "a"};
constexpr int32_t kEnd = 0;

class TokenMaskTest : public testing::Test {
 protected:
  void open(const std::string& schema) {
    const auto table = std::make_shared<const TokenTable>(
        static_cast<int32_t>(kTokens.size()), [](int32_t id) { return kTokens[static_cast<size_t>(id)]; });
    grammar_ = std::make_shared<const Grammar>(compile_json_schema(schema));
    table_ = table;
    mask_ = fresh();
  }
  std::unique_ptr<TokenMask> fresh() const {
    return std::make_unique<TokenMask>(grammar_, table_, std::vector<int32_t>{kEnd});
  }
  // The tokens that may come next, those past the vocabulary included.
  std::multiset<std::string> next() { return next(*mask_); }
  static std::multiset<std::string> next(TokenMask& mask) {
    std::vector<float> logits(kTokens.size() + 3, 1.0f);
    const bool any = mask.apply(logits);
    std::multiset<std::string> tokens;
    for (size_t id = 0; id < logits.size(); ++id) {
      if (std::isinf(logits[id])) continue;
      EXPECT_EQ(logits[id], 1.0f);
      tokens.insert(id >= kTokens.size() ? "outside" : id == kEnd ? "END" : kTokens[id]);
    }
    EXPECT_EQ(any, !tokens.empty());
    return tokens;
  }
  void take(const std::string& token) {
    for (size_t id = 0; id < kTokens.size(); ++id) {
      if (kTokens[id] == token) return mask_->accept(static_cast<int32_t>(id), token);
    }
    FAIL() << token;
  }

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTable> table_;
  std::unique_ptr<TokenMask> mask_;
};

using Tokens = std::multiset<std::string>;

TEST_F(TokenMaskTest, AllowsWhatGoesOnAndTheEndWhereItMayEnd) {
  open(R"({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})");
  EXPECT_EQ(next(), (Tokens{"{", "{\"", "{\"a", "{\"a\":"}));
  take("{\"");
  EXPECT_EQ(next(), (Tokens{"a", "a"}));
  take("a");
  take("\"");
  EXPECT_EQ(next(), (Tokens{":", ": "}));
  take(": ");
  EXPECT_EQ(next(), (Tokens{"1", "12", "12}"}));
  take("12");
  EXPECT_EQ(next(), (Tokens{"}", "1", "12", "12}"}));
  take("}");
  EXPECT_TRUE(mask_->can_end());
  EXPECT_EQ(next(), (Tokens{"END"}));
  mask_->accept(kEnd, "");
  EXPECT_EQ(next(), (Tokens{"END"}));
}

TEST_F(TokenMaskTest, AnAnswerMayEndOrGoOn) {
  open(R"({"enum": [1, 112, true]})");
  EXPECT_EQ(next(), (Tokens{"1", "t", "tru", "true"}));  // "12" leads nowhere
  take("1");
  EXPECT_EQ(next(), (Tokens{"END", "1", "12"}));
  take("12");
  EXPECT_EQ(next(), (Tokens{"END"}));
}

TEST_F(TokenMaskTest, SaysWhenNoTokenGoesOn) {
  open(R"({"const": "z"})");
  EXPECT_EQ(next(), Tokens{"\""});
  take("\"");
  EXPECT_EQ(next(), Tokens{});  // no token has a z
  EXPECT_FALSE(mask_->can_end());
}

// There are more places in it than a mask keeps.
TEST_F(TokenMaskTest, ForgetsWithoutAnEffect) {
  constexpr int kLength = 400;
  open(R"({"type": "string", "maxLength": 400})");
  take("\"");
  std::string text = "\"";
  for (int i = 0; i < kLength; ++i) {
    const std::unique_ptr<TokenMask> other = fresh();
    other->accept(-1, text);
    const Tokens may_come = next();
    ASSERT_EQ(may_come, next(*other)) << i;
    ASSERT_EQ(may_come.count("abc"), i <= kLength - 3 ? 1u : 0u) << i;
    take("a");
    text += 'a';
  }
  EXPECT_EQ(next(), Tokens{"\""});
  take("\"");
  EXPECT_EQ(next(), Tokens{"END"});
}

// Tokens are followed together where they start alike: the same as one by one, in any order of ids.
TEST_F(TokenMaskTest, TheTableAgreesWithFollowingEachToken) {
  open(R"({"type": "string"})");
  Matcher matcher(std::make_shared<const Grammar>(compile_json_schema(std::string(R"({"type": "object"})"))));
  std::vector<std::string> tokens;
  for (int i = 0; i < 3000; ++i) {
    std::string token;
    for (uint32_t rest = static_cast<uint32_t>(i) * 2654435761u;
         token.size() < 1 + static_cast<size_t>(i % 5); rest /= 9)
      token += "{}\":, a1[]"[rest % 10];
    tokens.push_back(token);
  }
  const TokenTable table(3000, [&](int32_t id) { return tokens[static_cast<size_t>(id)]; });
  Matcher::Place start = matcher.begin();
  for (const char c : std::string(R"({"a":[1)")) {
    const std::vector<bool> allowed = table.allowed(matcher, start);
    for (size_t id = 0; id < tokens.size(); ++id) {
      Matcher::Place place = start;
      for (const char byte : tokens[id])
        if (place != Matcher::kNowhere) place = matcher.after(place, static_cast<uint8_t>(byte));
      ASSERT_EQ(allowed[id], place != Matcher::kNowhere) << tokens[id];
    }
    start = matcher.after(start, static_cast<uint8_t>(c));
  }
}

}  // namespace
}  // namespace longspan
