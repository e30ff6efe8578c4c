#include "schedule/fair_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

namespace longspan {
namespace {

TEST(FairShare, CountsEachTenantUnderOneIndex) {
  FairShare share;
  const int32_t a = share.enter("a"), b = share.enter("b");
  EXPECT_NE(a, b);
  EXPECT_EQ(share.enter("a"), a);
  share.charge(a, 100);
  share.charge(b, 30);
  EXPECT_EQ(share.served()[a] - share.served()[b], 70);
}

TEST(FairShare, NobodySavesUp) {
  FairShare share;
  const int32_t a = share.enter("a"), b = share.enter("b");
  share.charge(b, 10);
  for (int i = 0; i < 50; ++i) share.charge(a, 100);
  const int32_t late = share.enter("c");
  EXPECT_EQ(share.served()[late], 4900) << "where a was when it was last served";
  share.begin_prompts(b);
  EXPECT_EQ(share.served()[b], 4900);
  share.begin_prompts(a);
  EXPECT_EQ(share.served()[a], 5000) << "who is ahead stays there";
}

// One tenant always has prompts, the other comes back for one at a time: both get as much.
TEST(FairShare, LeavingBetweenPromptsGainsNothing) {
  FairShare share;
  const int32_t steady = share.enter("steady");
  int32_t guest = share.enter("guest");
  int64_t of_steady = 0, of_guest = 0;
  for (int step = 0; step < 1000; ++step) {
    if (share.served()[guest] < share.served()[steady]) {
      share.charge(guest, 100);
      of_guest += 100;
      share.leave(guest);
      guest = share.enter("guest");
    } else {
      share.charge(steady, 100);
      of_steady += 100;
    }
  }
  EXPECT_NEAR(static_cast<double>(of_guest) / static_cast<double>(of_steady), 1, 0.1);
}

TEST(FairShare, PlacesOfThoseWhoLeftAreUsedAgain) {
  FairShare share;
  for (int i = 0; i < 1000; ++i) {
    const int32_t guest = share.enter("guest " + std::to_string(i));
    const int32_t second = share.enter("guest " + std::to_string(i));
    share.leave(second);
    share.charge(guest, 5);
    share.leave(guest);
  }
  EXPECT_EQ(share.size(), 1u);
  EXPECT_THROW(share.leave(0), Error);
}

}  // namespace
}  // namespace longspan
