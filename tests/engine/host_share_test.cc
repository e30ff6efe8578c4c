#include "engine/host_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longspan {
namespace {

using testing::ElementsAre;

TEST(HostShare, ProcessesWithTheSameCoresDivideThem) {
  const std::vector<HostPlace> places(3, {"a", {0, 1, 4, 5, 8, 9, 12}});
  EXPECT_THAT(share_host(places, 0).cores, ElementsAre(0, 1));
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(8, 9));
  EXPECT_EQ(share_host(places, 1).processes, 3);
  EXPECT_FALSE(share_host(places, 1).oversubscribed);
}

TEST(HostShare, ALauncherThatBoundThemHasDividedAlready) {
  const std::vector<HostPlace> places = {{"a", {0, 1}}, {"a", {2, 3}}};
  EXPECT_THAT(share_host(places, 1).cores, ElementsAre(2, 3));
  EXPECT_EQ(share_host(places, 1).processes, 2);
}

TEST(HostShare, HostsCountForThemselves) {
  const std::vector<HostPlace> places = {{"a", {0, 1}}, {"b", {0, 1}}, {"a", {0, 1}}};
  EXPECT_THAT(share_host(places, 1).cores, ElementsAre(0, 1));
  EXPECT_EQ(share_host(places, 1).processes, 1);
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(1));
  EXPECT_EQ(share_host(places, 2).processes, 2);
}

TEST(HostShare, MoreProcessesThanCoresHaveOneEach) {
  const std::vector<HostPlace> places(3, {"a", {6, 7}});
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(6));
  EXPECT_TRUE(share_host(places, 2).oversubscribed);
}

TEST(HostShare, TravelsAsText) {
  const HostPlace place = host_place_from_text(to_text({"host/boot", {3, 5}}));
  EXPECT_EQ(place.host, "host/boot");
  EXPECT_THAT(place.cores, ElementsAre(3, 5));
  EXPECT_EQ(this_host(), this_host());
  EXPECT_THAT(this_host(), testing::Not(testing::HasSubstr(" ")));
}

}  // namespace
}  // namespace longspan
