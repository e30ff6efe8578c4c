#include "server/secret.h"

#include <gtest/gtest.h>

namespace longspan::server {
namespace {

TEST(Secret, TheWholeKeyAndNothingElse) {
  const std::vector<std::string> keys = {"sk-one", "sk-another"};
  EXPECT_EQ(authorized_key("Bearer sk-one", keys), 0u);
  EXPECT_EQ(authorized_key("bearer sk-another", keys), 1u);
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer sk-on", "Bearer sk-onee", "Bearer sk-onesk-one",
                            "sk-one", "Basic sk-one", "Bearer  sk-one", "Bearer SK-ONE"}) {
    EXPECT_FALSE(authorized_key(wrong, keys)) << wrong;
  }
}

TEST(Secret, WithoutKeysEverybodyMayAsk) {
  EXPECT_TRUE(authorized_key("", {}));
  EXPECT_FALSE(authorized_key("", {""}));
}

}  // namespace
}  // namespace longspan::server
