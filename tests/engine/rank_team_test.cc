#include "engine/rank_team.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>
#include <omp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <stdexcept>
#include <string>

#include "support/sanitizers.h"

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

TEST(RankTeam, AThreadThatTheSystemRefusesIsAnError) {
  if (testing_support::kAddressSanitizer || testing_support::kThreadSanitizer)
    GTEST_SKIP() << "sanitizers reserve more memory than any limit";
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit tight = before;
  tight.rlim_cur = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{100} << 20);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  std::string message;
  try {
    RankTeam(std::vector<std::vector<int>>(1000, {0}), /*pin=*/false);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
    message = error.what();
  }
  setrlimit(RLIMIT_AS, &before);
  EXPECT_THAT(message, testing::HasSubstr("of 1000 threads of ranks"));
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
