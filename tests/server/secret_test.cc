#include "server/secret.h"

#include <gtest/gtest.h>

namespace longspan::server {
namespace {

TEST(Secret, TheWholeKeyAndNothingElse) {
  const std::vector<std::string> keys = {"sk-one", "sk-another"};
  EXPECT_TRUE(is_authorized("Bearer sk-one", keys));
  EXPECT_TRUE(is_authorized("bearer sk-another", keys));
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer sk-on", "Bearer sk-onee", "Bearer sk-onesk-one",
                            "sk-one", "Basic sk-one", "Bearer  sk-one", "Bearer SK-ONE"}) {
    EXPECT_FALSE(is_authorized(wrong, keys)) << wrong;
  }
}

TEST(Secret, WithoutKeysEverybodyMayAsk) {
  EXPECT_TRUE(is_authorized("", {}));
  EXPECT_FALSE(is_authorized("", {""}));
}

}  // namespace
}  // namespace longspan::server
