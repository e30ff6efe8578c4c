#include "server/think_splitter.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace longspan::server {
namespace {

/// "reasoning|content" of a text that comes in pieces that end at `cuts`.
std::string split(std::string_view text, bool inside, const std::vector<size_t>& cuts = {}) {
  ThinkSplitter splitter(inside);
  ThinkSplitter::Parts all;
  const auto add = [&](ThinkSplitter::Parts parts) {
    all.reasoning += parts.reasoning;
    all.content += parts.content;
  };
  size_t begin = 0;
  for (const size_t cut : cuts) {
    add(splitter.push(text.substr(begin, cut - begin)));
    begin = cut;
  }
  add(splitter.push(text.substr(begin)));
  add(splitter.finish());
  return all.reasoning + "|" + all.content;
}

TEST(ThinkSplitter, PartsThoughtsFromTheAnswer) {
  EXPECT_EQ(split("<think>\nhm\n\nso\n</think>\n\nanswer\n", false), "hm\n\nso|answer\n");
  EXPECT_EQ(split("\n <think>a</think>b", false), "a|b");
  EXPECT_EQ(split("<think>\n\n</think>\n\nanswer", false), "|answer");
  EXPECT_EQ(split("hm\n</think>\nanswer", true), "hm|answer");
  EXPECT_EQ(split("<think>never closed\n</thin", false), "never closed\n</thin|");
  EXPECT_EQ(split("<think>a</think>b</think>c<think>", false), "a|b</think>c<think>");
}

TEST(ThinkSplitter, LeavesOtherTextAlone) {
  for (const char* text :
       {"", "\n\n", "answer", "\n answer <think>", "<thin", "<thinking>", " <", "a</think>b"}) {
    EXPECT_EQ(split(text, false), "|" + std::string(text));
  }
}

TEST(ThinkSplitter, DoesNotDependOnThePieces) {
  std::mt19937 random(1);
  const std::string parts[] = {"<think>", "</think>", "\n", "a", "<", "</think", "think>", " "};
  for (int round = 0; round < 3000; ++round) {
    std::string text = random() % 2 ? "<think>" : "";
    for (size_t i = random() % 9; i > 0; --i) text += parts[random() % std::size(parts)];
    std::vector<size_t> cuts;
    for (size_t at = 0; at < text.size(); ++at) {
      if (random() % 2) cuts.push_back(at);
    }
    for (const bool inside : {false, true}) EXPECT_EQ(split(text, inside, cuts), split(text, inside)) << text;
  }
}

}  // namespace
}  // namespace longspan::server
