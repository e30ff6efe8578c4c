// Groups of cards over HCCL on the simulator: collectives on device memory in the order of streams.

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <bit>
#include <functional>
#include <latch>
#include <mutex>
#include <thread>

#include "ascend/simulator.h"
#include "device/device.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::Simulator;
using testing_support::TempDir;

/// A rank with a card of its own.
class CardRank {
 public:
  CardRank(Device& device, std::span<const std::byte> group, int32_t rank, int32_t size)
      : device_(device), arena_(device.memory()), stream_(device.make_stream()) {
    comm_ = device.join_group(group, rank, size, ctx);
  }

  Communicator& comm() { return *comm_; }
  Ops& ops() { return device_.ops(); }

  /// Numbers on the card.
  Matrix put(const std::vector<float>& values) {
    std::vector<int32_t> bits;
    for (const float value : values) bits.push_back(std::bit_cast<int32_t>(value));
    const auto count = std::ssize(values);
    void* data = values.empty() ? arena_.allocate(4) : const_cast<int32_t*>(ops().upload(ctx, bits).device);
    return {data, DType::kF32, 1, count, count};
  }
  Matrix room(int64_t count) { return arena_.matrix(1, count); }
  std::vector<float> get(Matrix m) {
    std::vector<float> values(static_cast<size_t>(m.cols));
    ops().download(ctx, m, values);
    return values;
  }

  static std::span<float> floats(Matrix m) { return {m.f32(0), static_cast<size_t>(m.cols)}; }
  static std::span<std::byte> bytes(Matrix m) { return std::as_writable_bytes(floats(m)); }

 private:
  Device& device_;
  Arena arena_;
  std::unique_ptr<Communicator> comm_;  // after the stream's work has ended
  std::unique_ptr<Stream> stream_;

 public:
  OpContext ctx{.arena = arena_, .stream = stream_.get()};
};

/// Runs body on `size` cards that are one group.
void on_cards(const Simulator& simulator, int32_t size, const std::function<void(CardRank&)>& body) {
  {
    DeviceOptions options{.backend = "ascend", .compute = DType::kBF16};
    options.ascend.home = simulator.home();
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(make_device(options));
    for (int32_t rank = 1; rank < size; ++rank) devices.push_back(devices[0]->another(rank));
    const std::vector<std::byte> group = devices[0]->new_group();
    std::vector<std::thread> threads;
    for (int32_t rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        CardRank mine(*devices[rank], group, rank, size);
        body(mine);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(simulator.leaks(), "");
}

std::vector<float> repeated(int64_t count, float value) {
  return std::vector<float>(static_cast<size_t>(count), value);
}

// With exact counts, and padded where the release has no HcclAllGatherV: rank r sends (5 r + round) % 4
// numbers.
TEST(AscendHccl, GathersWhateverEachSends) {
  for (const char* release : {"8.1", "8.5", "9.0"}) {
    const Simulator simulator(release);
    simulator.reset_counts();
    on_cards(simulator, 3, [](CardRank& r) {
      for (int32_t round = 0; round < 8; ++round) {
        const auto count = [&](int32_t rank) { return (rank * 5 + round) % 4; };
        std::vector<int64_t> bytes;
        std::vector<float> expected;
        for (int32_t rank = 0; rank < 3; ++rank) {
          bytes.push_back(count(rank) * 4);
          expected.insert(expected.end(), count(rank), static_cast<float>(rank * 100 + round));
        }
        const int32_t rank = r.comm().rank();
        const Matrix send = r.put(repeated(count(rank), static_cast<float>(rank * 100 + round)));
        const Matrix recv = r.room(std::ssize(expected));
        r.comm().start_all_gather_v(CardRank::bytes(send), CardRank::bytes(recv), bytes, "kv");
        r.comm().wait();
        EXPECT_EQ(r.get(recv), expected) << "round " << round;
      }
    });
    const bool exact = std::string(release) != "8.1";
    EXPECT_EQ(simulator.count("collective:HcclAllGatherV") > 0, exact) << release;
    EXPECT_EQ(simulator.count("collective"), 3u * 8) << "one each";
  }
}

// What a rank computes between start and wait neither waits for what travels nor disturbs it.
TEST(AscendHccl, WorkGoesOnWhileRowsTravel) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Simulator simulator("8.5");
    simulator.seed(seed);
    std::latch done(1);
    on_cards(simulator, 2, [&](CardRank& r) {
      const float mine = static_cast<float>(r.comm().rank() + 1);
      const Matrix send = r.put(repeated(64, mine)), recv = r.room(128), sum = r.put(repeated(64, 0));
      if (r.comm().rank() == 1) done.wait();
      r.comm().start_all_gather_v(CardRank::bytes(send), CardRank::bytes(recv),
                                  std::vector<int64_t>{256, 256}, "kv");
      for (int i = 0; i < 4; ++i) r.ops().add(r.ctx, send, sum);
      if (r.comm().rank() == 0) {
        r.ctx.wait();  // for the sums alone: the gather can't have ended
        done.count_down();
      }
      r.comm().wait();
      r.ops().clear(r.ctx, send);  // behind the gather
      r.ops().add(r.ctx, {recv.data, DType::kF32, 1, 64, 64}, sum);
      r.ops().add(r.ctx, {recv.f32(0) + 64, DType::kF32, 1, 64, 64}, sum);
      EXPECT_EQ(r.get(sum), repeated(64, 4 * mine + 3));
      EXPECT_EQ(r.get(send), repeated(64, 0));
    });
  }
}

TEST(AscendHccl, ReductionsAddUp) {
  for (const char* release : {"8.5", "9.0"}) {
    const Simulator simulator(release);
    on_cards(simulator, 3, [](CardRank& r) {
      const int32_t rank = r.comm().rank();
      const float mine = static_cast<float>(rank + 1);
      for (const int64_t count : {0, 1, 7, 300}) {
        const Matrix data = r.put(repeated(count, mine));
        r.comm().all_reduce(CardRank::floats(data), "o_proj");
        EXPECT_EQ(r.get(data), repeated(count, 6));
      }
      std::vector<float> ascending;
      for (int i = 0; i < 6; ++i) ascending.push_back(mine * static_cast<float>(i));
      // Equal parts in order; parts that overlap, differ, or are none.
      const std::vector<std::vector<Communicator::Range>> all = {{{0, 2}, {2, 2}, {4, 2}},
                                                                 {{0, 4}, {0, 4}, {4, 2}},
                                                                 {{1, 3}, {4, 0}, {4, 1}},
                                                                 {{0, 0}, {0, 0}, {0, 0}}};
      for (const auto& ranges : all) {
        const Matrix send = r.put(ascending), recv = r.room(ranges[rank].count);
        r.comm().reduce_scatter_v(CardRank::floats(send), CardRank::floats(recv), ranges, "experts");
        std::vector<float> expected;
        for (int64_t i = 0; i < ranges[rank].count; ++i)
          expected.push_back(6 * static_cast<float>(ranges[rank].begin + i));
        EXPECT_EQ(r.get(recv), expected);
      }
    });
  }
}

// Copies of a row on several ranks must stay equal: sums whose value depends on the order they are taken in.
TEST(AscendHccl, RanksThatWantTheSameSumsGetTheSameBits) {
  const Simulator simulator("8.5");
  std::mutex mutex;
  std::vector<std::vector<float>> results(4);
  on_cards(simulator, 4, [&](CardRank& r) {
    const int32_t rank = r.comm().rank();
    std::vector<float> values;
    for (int i = 0; i < 60; ++i)
      values.push_back((rank % 2 ? -1.0f : 1.0f) * 1e7f + static_cast<float>(rank * 3 + i) / 7.0f);
    const std::vector<Communicator::Range> ranges = {{0, 30}, {0, 30}, {30, 30}, {30, 30}};
    const Matrix send = r.put(values), recv = r.room(30);
    r.comm().reduce_scatter_v(CardRank::floats(send), CardRank::floats(recv), ranges, "experts");
    const std::vector<float> mine = r.get(recv);
    const std::lock_guard lock(mutex);
    results[rank] = mine;
  });
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[2], results[3]);
}

TEST(AscendHccl, RowsGoWhereTheyShould) {
  const Simulator simulator("8.5");
  on_cards(simulator, 3, [](CardRank& r) {
    const int32_t rank = r.comm().rank();
    const float mine = static_cast<float>(rank);
    const Matrix data = r.put({mine, mine}), shifted = r.room(2);
    r.comm().start_shift(CardRank::bytes(data), CardRank::bytes(shifted), "ring");
    r.comm().wait();
    EXPECT_EQ(r.get(shifted), repeated(2, static_cast<float>((rank + 2) % 3)));

    const Matrix root = r.room(rank == 1 ? 6 : 0);
    r.comm().gather_v(CardRank::bytes(data), CardRank::bytes(root),
                      rank == 1 ? std::vector<int64_t>{8, 8, 8} : std::vector<int64_t>{}, 1, "results");
    EXPECT_EQ(r.get(root), rank == 1 ? (std::vector<float>{0, 0, 1, 1, 2, 2}) : std::vector<float>{});

    const Matrix send = r.put({mine, mine + 10, mine + 20}), recv = r.room(3);
    const std::vector<int64_t> each(3, 4);
    r.comm().all_to_all_v(CardRank::bytes(send), each, CardRank::bytes(recv), each, "rows");
    EXPECT_EQ(r.get(recv), (std::vector<float>{mine * 10, mine * 10 + 1, mine * 10 + 2}));

    r.comm().broadcast(CardRank::bytes(data), 2, "data");
    r.comm().barrier("end");
    EXPECT_EQ(r.get(data), repeated(2, 2));
  });
}

// Counts that disagree, and a rank that never comes, show where a rank waits for its card.
TEST(AscendHccl, WhoDoesNotComeIsNamedWithinTheLimit) {
  const Simulator simulator("8.5");
  const auto message_of = [](CardRank& r) -> std::string {
    try {
      r.ctx.wait();
    } catch (const Error& error) {
      return error.what();
    }
    return "all is well";
  };
  on_cards(simulator, 2, [&](CardRank& r) {
    const Matrix data = r.put(repeated(1 + r.comm().rank(), 1));
    r.comm().all_reduce(CardRank::floats(data), "o_proj");
    EXPECT_THAT(message_of(r), AllOf(HasSubstr("aclrtSynchronizeStream failed"), HasSubstr("disagree")));
  });
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  on_cards(simulator, 2, [&](CardRank& r) {
    if (r.comm().rank() == 1) return;
    r.comm().barrier("layer 3");
    EXPECT_THAT(message_of(r), HasSubstr("never came: 1 of 2"));
  });
  unsetenv("HCCL_EXEC_TIMEOUT");
}

TEST(AscendHccl, AbortEndsLaterCalls) {
  const Simulator simulator("8.5");
  on_cards(simulator, 1, [](CardRank& r) {
    r.comm().abort("rank 7 failed: no memory");
    r.comm().abort("a later reason");
    try {
      r.comm().barrier("layer 3");
      ADD_FAILURE() << "a dead group was used";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kRankLost);
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("barrier \"layer 3\""), HasSubstr("rank 7 failed: no memory")));
    }
  });
}

TEST(AscendHccl, WhatIsMissingIsNamed) {
  namespace fs = std::filesystem;
  const Simulator simulator("9.0");
  const auto refusal = [&](const std::vector<std::string>& without) -> std::string {
    const TempDir folder;
    fs::create_directories(folder.path() / "lib64");
    for (const auto& entry : fs::directory_iterator(simulator.home() + "/lib64"))
      if (std::find(without.begin(), without.end(), entry.path().filename()) == without.end())
        fs::create_symlink(entry.path(), folder.path() / "lib64" / entry.path().filename());
    DeviceOptions options{.backend = "ascend", .compute = DType::kBF16};
    options.ascend.home = folder.path().string();
    try {
      make_device(options)->new_group();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({}), "accepted");
  EXPECT_THAT(refusal({"libhccl.so", "libhcomm.so"}),
              AllOf(HasSubstr("no libhccl.so"), HasSubstr("lib64/libhcomm.so")));
  EXPECT_THAT(refusal({"libhcomm.so"}), HasSubstr("HcclGetRootInfo is in none of libhccl.so, libhcomm.so"));
}

TEST(AscendHccl, OtherDevicesHaveNoGroups) {
  const auto device = make_device({.backend = "reference"});
  for (const std::function<void()>& call : {std::function<void()>([&] { device->another(1); }),
                                            std::function<void()>([&] { device->new_group(); })}) {
    try {
      call();
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
      EXPECT_THAT(error.what(), HasSubstr("--backend ascend"));
    }
  }
}

}  // namespace
}  // namespace longspan
