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

// Sums whose value depends on the order they are taken in: every rank must get the bits of rank order.
TEST_P(ThreadsCommSizes, ReductionsAddInRankOrder) {
  const int32_t size = GetParam();
  on_every_rank(size, 60s, [&](Communicator& comm) {
    for (const int64_t count : {0, 1, 2, 7, 1500}) {
      const auto value = [](int64_t rank, int64_t i) {
        return (rank % 2 ? -1.0f : 1.0f) * 1e7f + static_cast<float>(rank * 3 + i) / 7.0f;
      };
      std::vector<float> mine, expected;
      for (int64_t i = 0; i < count; ++i) {
        mine.push_back(value(comm.rank(), i));
        float sum = value(0, i);
        for (int32_t r = 1; r < size; ++r) sum += value(r, i);
        expected.push_back(sum);
      }
      // Ranges overlap: rank r wants everything from element r on.
      std::vector<Communicator::Range> ranges;
      for (int64_t r = 0; r < size; ++r) ranges.push_back({std::min(r, count), count - std::min(r, count)});
      std::vector<float> part(ranges[comm.rank()].count);
      comm.reduce_scatter_v(mine, part, ranges, "part");
      EXPECT_EQ(part, std::vector<float>(expected.begin() + ranges[comm.rank()].begin, expected.end()));
      comm.all_reduce(mine, "whole");
      EXPECT_EQ(mine, expected);
    }
  });
}

// Rank a sends (a + 2 b) % 3 ints to rank b.
TEST_P(ThreadsCommSizes, AllToAllVDeliversBySource) {
  const int32_t size = GetParam();
  on_every_rank(size, 60s, [&](Communicator& comm) {
    const auto count = [](int32_t from, int32_t to) { return (from + 2 * to) % 3; };
    std::vector<int32_t> send, expected;
    std::vector<int64_t> send_bytes, recv_bytes;
    for (int32_t r = 0; r < size; ++r) {
      send.insert(send.end(), count(comm.rank(), r), comm.rank() * 100 + r);
      send_bytes.push_back(count(comm.rank(), r) * 4);
      expected.insert(expected.end(), count(r, comm.rank()), r * 100 + comm.rank());
      recv_bytes.push_back(count(r, comm.rank()) * 4);
    }
    std::vector<int32_t> recv(expected.size());
    comm.all_to_all_v(std::as_bytes(std::span(send)), send_bytes, std::as_writable_bytes(std::span(recv)),
                      recv_bytes, "test");
    EXPECT_EQ(recv, expected);
  });
}

TEST_P(ThreadsCommSizes, BroadcastGivesAllTheRootsData) {
  on_every_rank(GetParam(), 60s, [&](Communicator& comm) {
    for (int32_t root = 0; root < comm.size(); ++root) {
      std::vector<int32_t> data(root, comm.rank());  // root 0: nothing at all
      comm.broadcast(std::as_writable_bytes(std::span(data)), root, "test");
      EXPECT_EQ(data, std::vector<int32_t>(root, root));
    }
  });
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
      {"broadcast", [](Communicator& c) { c.broadcast({}, 0, "x"); }}};
  for (const auto& [name, call] : calls) {
    on_every_rank(3, 50ms, [&](Communicator& comm) {
      if (comm.rank() == 2) return;
      EXPECT_THAT(rank_lost_message([&] { call(comm); }), testing::HasSubstr(name + " \"x\""));
    });
  }
}

TEST(ThreadsComm, SizesThatDisagreeEndAReduction) {
  on_every_rank(2, 60s, [](Communicator& comm) {
    std::vector<float> data(comm.rank() + 1);
    EXPECT_THAT(rank_lost_message([&] { comm.all_reduce(data, "sum"); }), testing::HasSubstr("sum"));
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
    const std::string message = rank_lost_message([&] { comm.all_gather_v(send, recv, bytes, "kv"); });
    EXPECT_THAT(message, testing::HasSubstr("expects 8 bytes from rank 1, which sends 4"));
  });
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
