#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <atomic>
#include <functional>
#include <thread>

#include "comm/communicator.h"
#include "comm/contract.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using namespace comm_contract;

void on_every_rank(int32_t size, std::chrono::milliseconds timeout,
                   const std::function<void(Communicator&)>& body) {
  auto group = make_threads_group(size, timeout);
  std::vector<std::thread> threads;
  for (auto& comm : group) threads.emplace_back([&body, &comm] { body(*comm); });
  for (auto& thread : threads) thread.join();
}

class ThreadsCommSizes : public testing::TestWithParam<int32_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadsCommSizes, testing::Values(1, 2, 3, 4, 5, 7, 8));

TEST_P(ThreadsCommSizes, BarrierKeepsRoundsApart) {
  const int32_t size = GetParam();
  std::atomic<int> arrived = 0;
  on_every_rank(size, 60s, [&](Communicator& comm) {
    for (int round = 1; round <= 200; ++round) {
      ++arrived;
      comm.barrier("in");
      EXPECT_EQ(arrived.load(), round * size);
      comm.barrier("out");
    }
  });
}

TEST_P(ThreadsCommSizes, AllGatherVConcatenatesInRankOrder) {
  on_every_rank(GetParam(), 60s, all_gather_v_concatenates_in_rank_order);
}

TEST_P(ThreadsCommSizes, AGatherInTwoHalvesLetsOthersPass) {
  auto others = make_threads_group(GetParam(), 60s);
  on_every_rank(GetParam(), 60s, [&](Communicator& comm) {
    a_gather_in_two_halves_lets_others_pass(comm, *others[comm.rank()]);
  });
}

TEST_P(ThreadsCommSizes, AShiftGoesToTheNextRank) {
  auto others = make_threads_group(GetParam(), 60s);
  on_every_rank(GetParam(), 60s,
                [&](Communicator& comm) { a_shift_goes_to_the_next_rank(comm, *others[comm.rank()]); });
}

TEST_P(ThreadsCommSizes, AnAllToAllInTwoHalvesLetsOthersPass) {
  auto others = make_threads_group(GetParam(), 60s);
  on_every_rank(GetParam(), 60s, [&](Communicator& comm) {
    an_all_to_all_in_two_halves_lets_others_pass(comm, *others[comm.rank()]);
  });
}

TEST_P(ThreadsCommSizes, ReductionsAddInRankOrder) {
  on_every_rank(GetParam(), 60s, reductions_add_in_rank_order);
}

TEST_P(ThreadsCommSizes, GatherVBringsAllToTheRoot) {
  on_every_rank(GetParam(), 60s, gather_v_brings_all_to_the_root);
}

TEST_P(ThreadsCommSizes, AllToAllVDeliversBySource) {
  on_every_rank(GetParam(), 60s, all_to_all_v_delivers_by_source);
}

TEST_P(ThreadsCommSizes, BroadcastGivesAllTheRootsData) {
  on_every_rank(GetParam(), 60s, broadcast_gives_all_the_roots_data);
}

// Every collective of a group without its last rank: the others leave it by name.
TEST(ThreadsComm, AMissingRankEndsEveryCollective) {
  using Call = std::function<void(Communicator&)>;
  const std::vector<std::pair<std::string, Call>> calls = {
      {"all_reduce", [](Communicator& c) { c.all_reduce({}, "x"); }},
      {"reduce_scatter_v",
       [](Communicator& c) { c.reduce_scatter_v({}, {}, std::vector<Communicator::Range>(3), "x"); }},
      {"all_to_all_v",
       [](Communicator& c) {
         const std::vector<int64_t> none(3);
         c.all_to_all_v({}, none, {}, none, "x");
       }},
      {"shift",
       [](Communicator& c) {
         c.start_shift({}, {}, "x");
         c.wait();
       }},
      {"broadcast", [](Communicator& c) { c.broadcast({}, 0, "x"); }}};
  for (const auto& [name, call] : calls) {
    on_every_rank(3, 50ms, [&](Communicator& comm) {
      if (comm.rank() == 2) return;
      EXPECT_THAT(rank_lost_message([&] { call(comm); }), testing::HasSubstr(name + " \"x\""));
    });
  }
}

TEST(ThreadsComm, SizesThatDisagreeEndAReduction) {
  on_every_rank(2, 60s, sizes_that_disagree_end_a_reduction);
}

TEST(ThreadsComm, AbortReleasesWaitingRanksWithTheReason) {
  on_every_rank(3, 60s, abort_releases_waiting_ranks_with_the_reason);
}

TEST(ThreadsComm, AMissingRankRunsIntoTheTimeLimit) {
  on_every_rank(3, 50ms, [](Communicator& comm) {
    if (comm.rank() == 2) return;
    EXPECT_THAT(rank_lost_message([&] { comm.barrier("kv"); }),
                testing::AllOf(testing::HasSubstr("2 of 3 ranks"), testing::HasSubstr("50 ms")));
  });
}

TEST(ThreadsComm, CountsThatDisagreeNameBothRanks) {
  on_every_rank(2, 60s, counts_that_disagree_name_both_ranks);
}

// Rank 1 expects fewer bytes of its own than it sends and sees that at once, while the others have megabytes
// of it to copy; the sanitizers see it if rank 1 frees them too early.
TEST(ThreadsComm, ARankThatLeavesWithAnErrorKeepsItsBuffersWhileOthersReadThem) {
  constexpr int64_t kLarge = 16 << 20;
  on_every_rank(3, 60s, [](Communicator& comm) {
    const int64_t sends = comm.rank() == 1 ? kLarge : comm.rank() == 2 ? 4 : 0;
    const std::vector<int64_t> bytes = {0, comm.rank() == 1 ? 4 : kLarge, 4};
    const std::vector<std::byte> send(sends);
    std::vector<std::byte> recv(bytes[1] + 4);
    rank_lost_message([&] { comm.all_gather_v(send, recv, bytes, "kv"); });
  });
}

}  // namespace
}  // namespace longspan
