// The contract over MPI: every process of the job runs the same tests in the same order. A failure ends the
// job, so that each test of MpiFailure has a job of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "comm/contract.h"
#include "comm/job.h"
#include "comm/staging.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using namespace comm_contract;
using testing::HasSubstr;

std::shared_ptr<Job> g_job;
std::atomic<bool> g_finalize_hangs = false;
int32_t g_channel = 0;

std::unique_ptr<Communicator> everyone(std::optional<std::chrono::milliseconds> limit = 60s) {
  std::vector<int32_t> ranks(g_job->size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return g_job->make_group(ranks, ++g_channel, limit);
}

TEST(MpiComm, RanksAreTheJobs) {
  const auto comm = everyone();
  EXPECT_EQ(comm->rank(), g_job->rank());
  EXPECT_EQ(comm->size(), g_job->size());
}

TEST(MpiComm, AllGatherVConcatenatesInRankOrder) {
  all_gather_v_concatenates_in_rank_order(*everyone());
}
TEST(MpiComm, ReductionsAddInRankOrder) {
  reductions_add_in_rank_order(*everyone());
}
TEST(MpiComm, GatherVBringsAllToTheRoot) {
  gather_v_brings_all_to_the_root(*everyone());
}
TEST(MpiComm, AllToAllVDeliversBySource) {
  all_to_all_v_delivers_by_source(*everyone());
}
TEST(MpiComm, BroadcastGivesAllTheRootsData) {
  broadcast_gives_all_the_roots_data(*everyone());
}

TEST(MpiComm, AGatherInTwoHalvesLetsOthersPass) {
  const auto comm = everyone(), other = everyone();
  a_gather_in_two_halves_lets_others_pass(*comm, *other);
}

TEST(MpiComm, AnAllToAllInTwoHalvesLetsOthersPass) {
  const auto comm = everyone(), other = everyone();
  an_all_to_all_in_two_halves_lets_others_pass(*comm, *other);
}

TEST(MpiComm, AShiftGoesToTheNextRank) {
  const auto comm = everyone(), other = everyone();
  a_shift_goes_to_the_next_rank(*comm, *other);
}

// The groups of a layout: pairs of neighbours, and ranks of the same parity.
TEST(MpiComm, GroupsOfSomeRanksKeepTheirMessagesApart) {
  const int32_t rank = g_job->rank(), size = g_job->size();
  std::vector<int32_t> pair, parity;
  for (int32_t r = 0; r < size; ++r) {
    if (r / 2 == rank / 2) pair.push_back(r);
    if (r % 2 == rank % 2) parity.push_back(r);
  }
  const auto pairs = g_job->make_group(pair, ++g_channel, 60s);
  const auto parities = g_job->make_group(parity, ++g_channel, 60s);
  a_gather_in_two_halves_lets_others_pass(*pairs, *parities);
  reductions_add_in_rank_order(*parities);
  all_gather_v_concatenates_in_rank_order(*pairs);
}

// More floats than one round takes, and exactly as many.
TEST(MpiComm, LargeReductionsAddInRankOrder) {
  reductions_of_sizes_add_in_rank_order(*everyone(), {2'097'152, 4'200'003});
}

// What `longspan plan` counts with: small sums, sums of one round and of several with a small rest.
TEST(MpiComm, MessagesTakeTheMemoryThatIsPredicted) {
  const int32_t size = g_job->size();
  const int64_t round = kSumRound / 4;
  const auto held_by = [](auto collective) {
    everyone()->barrier("nothing of an earlier group is under way");
    const int64_t before = g_job->staging_bytes();
    collective();
    return g_job->staging_bytes() - before;
  };
  for (const int64_t floats :
       {int64_t{0}, int64_t{5}, kSmallSum / 4, int64_t{100'003}, round, 2 * round + 7}) {
    const auto comm = everyone(), parts = everyone();
    std::vector<float> data(static_cast<size_t>(floats)), part(data.size());
    const int64_t sums = held_by([&] { comm->all_reduce(data, "sum"); });
    // The rank's part may be a float shorter than the longest.
    const int64_t predicted = all_reduce_staging(floats, size).bytes();
    EXPECT_LE(sums, predicted) << floats;
    if (floats <= kSmallSum / 4 || floats == round) {
      EXPECT_GE(sums, predicted - 4 * (size + 1)) << floats;
    }
    const std::vector<Communicator::Range> ranges(static_cast<size_t>(size), {0, floats});
    EXPECT_EQ(held_by([&] { parts->reduce_scatter_v(data, part, ranges, "parts"); }),
              reduce_scatter_staging(floats, size).bytes())
        << floats;
  }
  const auto comm = everyone();
  const std::vector<std::byte> send(1000);
  std::vector<std::byte> recv(1000 * static_cast<size_t>(size));
  const std::vector<int64_t> bytes(static_cast<size_t>(size), 1000);
  EXPECT_EQ(held_by([&] { comm->all_gather_v(send, recv, bytes, "rows"); }), 1000 + 1000 * size);
}

TEST(MpiComm, BarrierWaitsForTheLast) {
  const auto comm = everyone();
  // Processes of one launcher on one machine: a file that the last one makes before it comes to the barrier.
  const auto mark =
      std::filesystem::temp_directory_path() / ("longspan-barrier-" + std::to_string(getppid()));
  for (int32_t last = 0; last < comm->size(); ++last) {
    const bool is_last = comm->rank() == last;
    if (is_last) {
      std::this_thread::sleep_for(20ms);
      std::ofstream(mark) << last;
    }
    comm->barrier("in");
    EXPECT_TRUE(std::filesystem::exists(mark));
    comm->barrier("seen");
    if (is_last) std::filesystem::remove(mark);
    comm->barrier("removed");
  }
}

// With 2 processes: after two seconds without a message the thread that waits for one sleeps longer.
TEST(MpiIdle, AWaitingProcessComesToRest) {
  const auto comm = everyone(), measured = everyone();
  const std::vector<std::byte> send(8);
  std::vector<std::byte> recv(16);
  const std::vector<int64_t> bytes = {8, 8};
  if (comm->rank() == 1) {
    measured->barrier("measured");
    return comm->all_gather_v(send, recv, bytes, "late");
  }
  comm->start_all_gather_v(send, recv, bytes, "late");
  const auto sleeps = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
  };
  long least = std::numeric_limits<long>::max();
  for (int second = 0; second < 20 && least > 1000; ++second) {
    const auto before = sleeps();
    std::this_thread::sleep_for(1s);
    least = std::min(least, sleeps() - before);
  }
  EXPECT_LE(least, 1000) << "naps of 2 ms make 500 in a second, naps of 100 us some 6000";
  measured->barrier("measured");
  comm->wait();
}

// With 3 processes each.

TEST(MpiFailure, SizesThatDisagreeEndAReduction) {
  sizes_that_disagree_end_a_reduction(*everyone());
}

TEST(MpiFailure, CountsThatDisagreeNameBothRanks) {
  if (g_job->rank() < 2) counts_that_disagree_name_both_ranks(*g_job->make_group({0, 1}, 1, 60s));
}

// A message longer than expected: MPI would cut it.
TEST(MpiFailure, TooManyBytesNameBothRanks) {
  const auto comm = everyone();
  const std::vector<std::byte> send(comm->rank() == 2 ? 100'000 : 8);
  std::vector<std::byte> recv(comm->rank() == 2 ? 8 + 8 + 100'000 : 24);
  const std::vector<int64_t> bytes = {8, 8, std::ssize(recv) - 16};
  EXPECT_THAT(rank_lost_message([&] { comm->all_gather_v(send, recv, bytes, "kv"); }),
              testing::AllOf(HasSubstr("all_gather_v \"kv\""),
                             HasSubstr("expects 8 bytes from rank 2, which sends 100000")));
}

// A message of several pieces is told whole, as far as it is known.
TEST(MpiFailure, TooFewBytesOfALongMessageAreTold) {
  const auto comm = everyone();
  constexpr int64_t kExpected = 3 << 20, kSent = (5 << 20) / 2;
  std::vector<std::byte> data(comm->rank() == 0 ? kSent : kExpected);
  const std::string message = rank_lost_message([&] {
    comm->broadcast(data, 0, "weights");
    everyone()->barrier("after");
  });
  EXPECT_THAT(message, HasSubstr("expects 3145728 bytes from rank 0, which sends 2621440"));
}
TEST(MpiFailure, TooManyBytesOfALongMessageAreTold) {
  const auto comm = everyone();
  constexpr int64_t kExpected = (5 << 20) / 2, kSent = 4 << 20;
  std::vector<std::byte> data(comm->rank() == 0 ? kSent : kExpected);
  const std::string message = rank_lost_message([&] {
    comm->broadcast(data, 0, "weights");
    everyone()->barrier("after");
  });
  EXPECT_THAT(message, HasSubstr("expects 2621440 bytes from rank 0, which sends at least 3145728"));
}

TEST(MpiFailure, AbortReleasesWaitingRanksWithTheReason) {
  abort_releases_waiting_ranks_with_the_reason(*everyone());
}

TEST(MpiFailure, AnAbortReachesOtherGroups) {
  if (g_job->rank() == 2) return g_job->make_group({2}, 9, 60s)->abort("rank 2 failed: bad page");
  EXPECT_THAT(rank_lost_message([&] {
                g_job->make_group({0, 1, 2}, 8, {})->barrier("x");
              }),
              HasSubstr("bad page"));
}

TEST(MpiFailure, AMissingRankRunsIntoTheTimeLimit) {
  const auto comm = everyone(50ms), end = everyone();
  if (comm->rank() == 2) {
    EXPECT_THAT(rank_lost_message([&] { end->barrier("end"); }), HasSubstr("rank 2 did not reach"));
    return;
  }
  EXPECT_THAT(rank_lost_message([&] { comm->barrier("kv"); }),
              testing::AllOf(HasSubstr("barrier \"kv\""),
                             HasSubstr("rank 2 did not reach barrier \"kv\" within 50 ms")));
}

// A group without a limit waits for a slow process, but not for one that has left.
TEST(MpiFailure, AProcessThatLeavesIsMissed) {
  const auto comm = everyone({});
  if (comm->rank() == 2) return;
  EXPECT_THAT(rank_lost_message([&] { comm->barrier("load"); }), HasSubstr("rank 2 has left the job"));
}

// The limit is waited for once, however often one tries to leave.
TEST(MpiFailure, AHungFinalizeNamesTheOthers) {
  g_finalize_hangs = true;
  const std::string others = g_job->rank() == 0 ? "1, 2" : g_job->rank() == 1 ? "0, 2" : "0, 1";
  EXPECT_THAT(
      rank_lost_message([&] { g_job->leave(); }),
      HasSubstr("MPI_Finalize did not return within 4000 ms: lost after it had left is one of ranks " +
                others));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(rank_lost_message([&] { g_job->leave(); }), HasSubstr("MPI_Finalize"));
  g_job.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 3s);
}

TEST(MpiEnd, WhenRankZeroLeavesTheOthersAreCancelledAndLeave) {
  const auto comm = everyone({});
  if (comm->rank() == 0) return g_job.reset();
  try {
    comm->barrier("next step");
    ADD_FAILURE() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
    EXPECT_THAT(error.what(), HasSubstr("rank 0 has left the job"));
  }
  g_job->leave();
}

}  // namespace
}  // namespace longspan

// In front of MPI's own.
extern "C" int PMPI_Finalize();
extern "C" int MPI_Finalize() {
  while (longspan::g_finalize_hangs) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return PMPI_Finalize();
}

// Exit code 0 from a process that has left its job, 5 where a test lost it as it should, 1 otherwise: mpirun
// asks a process that ends well to end MPI, which a lost job can't.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::signal(SIGTERM, SIG_IGN);  // mpirun ends the others with the first; they have a test to finish
  const char* const limit = std::getenv("SILENCE_LIMIT_MS");
  longspan::g_job =
      longspan::join_mpi_job({.silence_limit = std::chrono::milliseconds(limit ? std::atoi(limit) : 60'000)});
  int result = RUN_ALL_TESTS();
  try {
    if (longspan::g_job)
      longspan::g_job->leave();
    else if (longspan::g_finalize_hangs && result == 0)
      result = 5;
  } catch (const longspan::Error&) {
    if (result == 0) result = 5;
  }
  longspan::g_job.reset();
  std::fflush(nullptr);
  _exit(result);
}
