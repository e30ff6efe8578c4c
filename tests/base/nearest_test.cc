#include "base/nearest.h"

#include <gtest/gtest.h>

namespace longspan {
namespace {

TEST(Nearest, FewestEdits) {
  EXPECT_EQ(nearest("recal", {"gsm8k", "recall", "ppl"}), "recall");
  EXPECT_EQ(nearest("xyzzy", {"gsm8k", "recall"}), "");
  EXPECT_EQ(nearest("", {"a"}), "a");
  EXPECT_EQ(nearest(std::string(1000, 'a'), {"a"}), "");
}

}  // namespace
}  // namespace longspan
