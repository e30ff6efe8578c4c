#include "server/admission.h"

#include <gtest/gtest.h>

namespace longspan::server {
namespace {

TEST(Admission, OneKeyHasAllPlaces) {
  Admission admission(3, 1);
  EXPECT_EQ(admission.most_of_key(), 3);
  EXPECT_FALSE(admission.enter(0, 4));
  {
    const auto first = admission.enter(0, 2), second = admission.enter(0, 1);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(admission.taken(), 3);
    EXPECT_FALSE(admission.enter(0, 1));
  }
  EXPECT_EQ(admission.taken(), 0);
}

TEST(Admission, NoKeyCanTakeThePlacesOfTheOthers) {
  Admission admission(12, 3);  // 2 kept for each, 6 for anybody
  EXPECT_EQ(admission.most_of_key(), 8);
  EXPECT_FALSE(admission.enter(0, 9));
  auto greedy = admission.enter(0, 8);
  ASSERT_TRUE(greedy);
  EXPECT_FALSE(admission.enter(0, 1));
  const auto b = admission.enter(1, 2), c = admission.enter(2, 1);
  ASSERT_TRUE(b && c) << "their own";
  EXPECT_FALSE(admission.enter(1, 1));
  EXPECT_EQ(admission.taken(), 11);
  greedy->give_back(1);
  EXPECT_FALSE(admission.enter(2, 3));
  EXPECT_TRUE(admission.enter(2, 2)) << "its second and the one that was given back";
}

TEST(Admission, MoreKeysThanPlacesShareAll) {
  Admission admission(2, 5);
  const auto a = admission.enter(4, 2);
  EXPECT_TRUE(a);
  EXPECT_FALSE(admission.enter(0, 1));
}

}  // namespace
}  // namespace longspan::server
