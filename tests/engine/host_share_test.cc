#include "engine/host_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longspan {
namespace {

using testing::ElementsAre;

TEST(HostShare, ProcessesWithTheSameCoresDivideThem) {
  const std::vector<HostPlace> places(3, {"a", {0, 1, 4, 5, 8, 9, 12}, 8});
  EXPECT_THAT(share_host(places, 0).cores, ElementsAre(0, 1));
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(8, 9));
  EXPECT_EQ(share_host(places, 1).processes, 3);
  EXPECT_FALSE(share_host(places, 1).oversubscribed);
}

TEST(HostShare, ALauncherThatBoundThemHasDividedAlready) {
  const std::vector<HostPlace> places = {{"a", {0, 1}, 4}, {"a", {2, 3}, 4}};
  EXPECT_THAT(share_host(places, 1).cores, ElementsAre(2, 3));
  EXPECT_EQ(share_host(places, 1).processes, 2);
}

TEST(HostShare, HostsCountForThemselves) {
  const std::vector<HostPlace> places = {{"a", {0, 1}, 2}, {"b", {0, 1}, 2}, {"a", {0, 1}, 2}};
  EXPECT_THAT(share_host(places, 1).cores, ElementsAre(0, 1));
  EXPECT_EQ(share_host(places, 1).processes, 1);
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(1));
  EXPECT_EQ(share_host(places, 2).processes, 2);
}

TEST(HostShare, MoreProcessesThanCoresHaveOneEach) {
  const std::vector<HostPlace> places(3, {"a", {6, 7}, 8});
  EXPECT_THAT(share_host(places, 2).cores, ElementsAre(6));
  EXPECT_TRUE(share_host(places, 2).oversubscribed);
}

TEST(HostShare, ProcessesBoundToFewCoresAreNoted) {
  const auto note = [](std::vector<HostPlace> places) { return binding_note(places); };
  EXPECT_EQ(note({{"a/1", {0}, 16}, {"a/1", {1}, 16}}),
            "on a the launcher may use 16 cores, and the processes it started 2 between them; Open MPI binds "
            "processes to cores unless mpirun is given --bind-to none");
  EXPECT_THAT(note({{"a/1", {0, 1}, 2}, {"b/1", {3}, 2}}), testing::StartsWith("on b the launcher may"));
  EXPECT_EQ(note({{"a/1", {0}, 2}, {"a/1", {1}, 2}}), "");
  EXPECT_EQ(note({{"a/1", {0, 1, 2, 3}, 4}, {"a/1", {0, 1, 2, 3}, 4}}), "");
  EXPECT_EQ(note({{"a/1", {0}, 1}}), "");
  EXPECT_EQ(note({{"a/1", {0}, 0}}), "");  // unknown
}

TEST(HostShare, TravelsAsText) {
  const HostPlace place = host_place_from_text(to_text({"host/boot", {3, 5}, 16}));
  EXPECT_EQ(place.launcher_cores, 16);
  EXPECT_EQ(place.host, "host/boot");
  EXPECT_THAT(place.cores, ElementsAre(3, 5));
  EXPECT_EQ(this_host(), this_host());
  EXPECT_EQ(this_place({1}).host, this_host());
  EXPECT_GE(this_place({1}).launcher_cores, 1);
  EXPECT_THAT(this_host(), testing::Not(testing::HasSubstr(" ")));
}

}  // namespace
}  // namespace longspan
