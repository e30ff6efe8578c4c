#include "engine/rank_team.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

namespace longspan {
namespace {

const auto kNoFailure = [](int, const std::string& what) { ADD_FAILURE() << what; };

TEST(RankTeam, RunsTheWorkersOfTheRangeOnceEach) {
  RankTeam team({{0}, {0}, {0}}, /*pin=*/false);
  for (int round = 0; round < 100; ++round) {
    std::array<std::atomic<int>, 3> runs = {};
    team.run(
        0, 3, [&](int worker) { ++runs[worker]; }, kNoFailure);
    team.run(
        1, 2, [&](int worker) { ++runs[worker]; }, kNoFailure);
    EXPECT_EQ(runs[0], 1);
    EXPECT_EQ(runs[1], 2);
    EXPECT_EQ(runs[2], 1);
  }
}

TEST(RankTeam, EachWorkerIsMasterOfATeamOfItsOwnSize) {
  RankTeam team({{0}, {0, 0, 0}}, /*pin=*/false);
  std::array<int, 2> sizes = {};
  team.run(
      0, 2, [&](int worker) { sizes[worker] = omp_get_max_threads(); }, kNoFailure);
  EXPECT_EQ(sizes[0], 1);
  EXPECT_EQ(sizes[1], 3);
}

TEST(RankTeam, AFailureIsToldAtOnceAndRethrown) {
  RankTeam team({{0}, {0}}, /*pin=*/false);
  std::atomic<bool> released = false;
  const auto body = [&](int worker) {
    if (worker == 1) throw std::runtime_error("bad page");
    while (!released) {
    }
  };
  const auto on_failure = [&](int worker, const std::string& what) {
    EXPECT_EQ(worker, 1);
    EXPECT_EQ(what, "bad page");
    released = true;
  };
  EXPECT_THROW(team.run(0, 2, body, on_failure), std::runtime_error);
  team.run(
      0, 2, [](int) {}, kNoFailure);
}

}  // namespace
}  // namespace longspan
