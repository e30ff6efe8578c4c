#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <atomic>
#include <functional>
#include <thread>

#include "comm/communicator.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

void on_every_rank(int32_t size, std::chrono::milliseconds timeout,
                   const std::function<void(Communicator&)>& body) {
  auto group = make_threads_group(size, timeout);
  std::vector<std::thread> threads;
  for (auto& comm : group) threads.emplace_back([&body, &comm] { body(*comm); });
  for (auto& thread : threads) thread.join();
}

std::string rank_lost_message(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRankLost);
    return error.what();
  }
  ADD_FAILURE() << "expected Error(kRankLost)";
  return "";
}

class ThreadsCommSizes : public testing::TestWithParam<int32_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadsCommSizes, testing::Values(1, 2, 3, 4, 7, 8));

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

// Rank r sends (r * 5 + round) % 4 ints, so that some send nothing.
TEST_P(ThreadsCommSizes, AllGatherVConcatenatesInRankOrder) {
  const int32_t size = GetParam();
  on_every_rank(size, 60s, [&](Communicator& comm) {
    for (int round = 0; round < 50; ++round) {
      const auto count = [&](int r) { return (r * 5 + round) % 4; };
      std::vector<int32_t> send(count(comm.rank()), comm.rank() * 1000 + round);
      std::vector<int64_t> bytes;
      std::vector<int32_t> expected;
      for (int r = 0; r < size; ++r) {
        bytes.push_back(count(r) * 4);
        expected.insert(expected.end(), count(r), r * 1000 + round);
      }
      std::vector<int32_t> recv(expected.size());
      comm.all_gather_v(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), bytes,
                        "test");
      EXPECT_EQ(recv, expected);
      std::fill(send.begin(), send.end(), -1);  // must not reach anybody any more
    }
  });
}

TEST(ThreadsComm, AbortReleasesWaitingRanksWithTheReason) {
  on_every_rank(3, 60s, [](Communicator& comm) {
    if (comm.rank() == 1) {
      comm.abort("rank 1 failed: bad page");
      comm.abort("a later reason");
      return;
    }
    const std::string message = rank_lost_message([&] { comm.barrier("kv of layer 5"); });
    EXPECT_THAT(message, testing::HasSubstr("kv of layer 5"));
    EXPECT_THAT(message, testing::HasSubstr("rank 1 failed: bad page"));
    EXPECT_THAT(rank_lost_message([&] { comm.barrier("next"); }), testing::HasSubstr("bad page"));
  });
}

TEST(ThreadsComm, AMissingRankRunsIntoTheTimeLimit) {
  on_every_rank(3, 50ms, [](Communicator& comm) {
    if (comm.rank() == 2) return;
    EXPECT_THAT(rank_lost_message([&] { comm.barrier("kv"); }),
                testing::AllOf(testing::HasSubstr("2 of 3 ranks"), testing::HasSubstr("50 ms")));
  });
}

TEST(ThreadsComm, CountsThatDisagreeNameBothRanks) {
  on_every_rank(2, 60s, [](Communicator& comm) {
    const std::vector<std::byte> send(comm.rank() == 0 ? 8 : 4);
    std::vector<std::byte> recv(8 + 8);
    const std::vector<int64_t> bytes = {8, 8};
    rank_lost_message([&] { comm.all_gather_v(send, recv, bytes, "kv"); });
  });
}

}  // namespace
}  // namespace longspan
