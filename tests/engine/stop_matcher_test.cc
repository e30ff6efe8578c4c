#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace longspan {
namespace {

TEST(StopMatcher, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("one E"), "one ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("x\n"), "ENx");
  EXPECT_EQ(matcher.push("\nrest"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, CutsBeforeTheFirstOfSeveral) {
  StopMatcher matcher({"bc", "abc"});
  EXPECT_EQ(matcher.push("xxabcd"), "xx");
}

// Whatever the pieces, the text shown is the text up to the stop string that is complete first.
TEST(StopMatcher, PiecesDoNotMatter) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 5000; ++trial) {
    const auto random_text = [&](size_t length) {
      std::string text;
      for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
      return text;
    };
    const std::string text = random_text(random() % 30);
    std::vector<std::string> stops;
    for (size_t i = random() % 3; i > 0; --i) stops.push_back(random_text(1 + random() % 5));
    // The shortest start of the text that ends in a stop string, without the longest such.
    std::string expected = text;
    bool stopped = false;
    for (size_t end = 1; end <= text.size() && !stopped; ++end) {
      for (const std::string& stop : stops) {
        if (!text.substr(0, end).ends_with(stop)) continue;
        stopped = true;
        expected = std::min(expected, text.substr(0, end - stop.size()),
                            [](const auto& a, const auto& b) { return a.size() < b.size(); });
      }
    }

    StopMatcher matcher(stops);
    std::string shown;
    for (size_t begin = 0; begin < text.size();) {
      const size_t length = 1 + random() % 4;
      shown += matcher.push(std::string_view(text).substr(begin, length));
      begin += length;
    }
    shown += matcher.finish();
    ASSERT_EQ(shown, expected);
    ASSERT_EQ(matcher.matched(), stopped);
  }
}

}  // namespace
}  // namespace longspan
