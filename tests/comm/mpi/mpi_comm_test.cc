// The contract over MPI: every process of the job runs the same tests in the same order. A failure ends the
// job, so that each test of MpiFailure has a job of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <thread>

#include "comm/contract.h"
#include "comm/job.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using namespace comm_contract;
using testing::HasSubstr;

std::shared_ptr<Job> g_job;
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

TEST(MpiComm, BarrierWaitsForTheLast) {
  const auto comm = everyone(), messages = everyone();
  for (int32_t last = 0; last < comm->size(); ++last) {
    // What the last one sends before its barrier is there after it.
    int32_t data = comm->rank() == last ? 7 : 0;
    if (comm->rank() == last) std::this_thread::sleep_for(20ms);
    messages->broadcast(std::as_writable_bytes(std::span(&data, 1)), last, "seven");
    comm->barrier("in");
    EXPECT_EQ(data, 7);
  }
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

TEST(MpiFailure, AbortReleasesWaitingRanksWithTheReason) {
  abort_releases_waiting_ranks_with_the_reason(*everyone());
}

TEST(MpiFailure, AnAbortReachesOtherGroups) {
  const auto comm = everyone();
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

// Exit code 0 from a process that has left its job, 5 where a test lost it as it should, 1 otherwise: mpirun
// asks a process that ends well to end MPI, which a lost job can't.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::signal(SIGTERM, SIG_IGN);  // mpirun ends the others with the first; they have a test to finish
  longspan::g_job = longspan::join_mpi_job({.silence_limit = std::chrono::seconds(60)});
  int result = RUN_ALL_TESTS();
  try {
    if (longspan::g_job) longspan::g_job->leave();
  } catch (const longspan::Error&) {
    if (result == 0) result = 5;
  }
  longspan::g_job.reset();
  std::fflush(nullptr);
  _exit(result);
}
