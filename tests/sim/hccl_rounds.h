#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "sim/cann.h"

namespace cann_test {

/// A rank of a group, on a thread with a device of its own.
struct RankSession {
  Session s;
  Cann& cann = s.cann;
  uint32_t rank, ranks;
  HcclComm comm = nullptr;

  RankSession(const char* release, uint32_t size, const HcclRootInfo& root, uint32_t r)
      : s(release, static_cast<int>(r)), rank(r), ranks(size) {
    EXPECT_EQ(CANN(HcclCommInitRootInfo)(ranks, &root, r, &comm), HCCL_SUCCESS) << s.error();
  }
  ~RankSession() {
    if (!comm) return;
    EXPECT_EQ(CANN(HcclCommDestroy)(comm), HCCL_SUCCESS) << s.error();
  }
};

/// Every collective, a few times, of sums whose bits depend on the order they are taken in; what the rank
/// received, as text.
inline std::string all_collectives(RankSession& r) {
  Cann& cann = r.cann;
  Session& s = r.s;
  std::string text;
  const auto tell = [&](const char* what, const void* data, size_t count) {
    text += what;
    const std::vector<uint32_t> words = count ? s.download<uint32_t>(data, count) : std::vector<uint32_t>();
    for (const uint32_t bits : words) text += fmt::format(" {:08x}", bits);
    text += '\n';
  };
  for (uint32_t round = 0; round < 6; ++round) {
    std::vector<float> values;
    for (uint32_t i = 0; i < 4 * r.ranks; ++i)
      values.push_back((r.rank % 2 ? -1e7f : 1e7f) + static_cast<float>(r.rank * 3 + i + round) / 7.0f);
    void* send = s.upload(values);
    void* recv = s.allocate(values.size() * sizeof(float) * r.ranks);
    const auto run = [&](const char* what, HcclResult status, size_t count) {
      EXPECT_EQ(status, HCCL_SUCCESS) << what << ": " << s.error();
      EXPECT_EQ(s.sync(), 0) << what << ": " << s.error();
      tell(what, recv, count);
    };
    const HcclDataType f32 = HCCL_DATA_TYPE_FP32;
    const uint64_t count = values.size();
    run("gather", CANN(HcclAllGather)(send, recv, count, f32, r.comm, s.stream), count * r.ranks);
    std::vector<uint64_t> counts, displs;
    uint64_t sum = 0;
    for (uint32_t of = 0; of < r.ranks; ++of) {
      counts.push_back((of + round) % 3);
      displs.push_back(sum);
      sum += counts.back();
    }
    run("gather v",
        CANN(HcclAllGatherV)(send, counts[r.rank], recv, counts.data(), displs.data(), f32, r.comm, s.stream),
        sum);
    run("sum", CANN(HcclAllReduce)(send, recv, count, f32, HCCL_REDUCE_SUM, r.comm, s.stream), count);
    run("scatter", CANN(HcclReduceScatter)(send, recv, 4, f32, HCCL_REDUCE_SUM, r.comm, s.stream), 4);
    // Rank a sends (a + b + round) % 3 elements to rank b, from 4 b on.
    const auto sent = [&](uint32_t a, uint32_t b) { return uint64_t{(a + b + round) % 3}; };
    std::vector<uint64_t> to, to_displs, from, from_displs;
    for (uint32_t other = 0; other < r.ranks; ++other) {
      to.push_back(sent(r.rank, other));
      to_displs.push_back(4 * other);
      from_displs.push_back(other == 0 ? 0 : from_displs.back() + from.back());
      from.push_back(sent(other, r.rank));
    }
    run("all to all",
        CANN(HcclAlltoAllV)(send, to.data(), to_displs.data(), f32, recv, from.data(), from_displs.data(), f32,
                            r.comm, s.stream),
        from_displs.back() + from.back());
    EXPECT_EQ(CANN(HcclBarrier)(r.comm, s.stream), HCCL_SUCCESS);
    // In place; nobody but the root has written to its buffer.
    void* mine = r.rank == r.ranks - 1 ? send : s.allocate(count * 4);
    EXPECT_EQ(CANN(HcclBroadcast)(mine, count, f32, r.ranks - 1, r.comm, s.stream), HCCL_SUCCESS);
    EXPECT_EQ(CANN(HcclAllReduce)(mine, mine, count, f32, HCCL_REDUCE_SUM, r.comm, s.stream), HCCL_SUCCESS);
    EXPECT_EQ(s.sync(), 0) << s.error();
    tell("broadcast", mine, count);
  }
  return text;
}

/// More collectives than may be under way at once, by the model of time each with another rank that comes
/// last and another that has nothing to do; the trace of this process, which is recording.
inline std::string trace_of_collectives(RankSession& r) {
  Cann& cann = r.cann;
  Session& s = r.s;
  void *send = s.upload(std::vector<float>(512)), *recv = s.allocate(2048), *other = s.allocate(1 << 16);
  for (uint32_t round = 0; round < 9; ++round) {
    const size_t bytes = size_t{1} << (8 + 4 * ((r.rank + round) % 3));
    EXPECT_EQ(CANN(aclrtMemsetAsync)(other, bytes, 0, bytes, s.stream), 0) << s.error();
    const uint32_t sender = round % r.ranks, receiver = (round + 1) % r.ranks;
    std::vector<uint64_t> to(r.ranks), from(r.ranks), displs(r.ranks);
    if (r.rank == sender) to[receiver] = 512;
    if (r.rank == receiver) from[sender] = 512;
    EXPECT_EQ(CANN(HcclAlltoAllV)(send, to.data(), displs.data(), HCCL_DATA_TYPE_FP32, recv, from.data(),
                                  displs.data(), HCCL_DATA_TYPE_FP32, r.comm, s.stream),
              HCCL_SUCCESS)
        << s.error();
    if (round == 4) {
      EXPECT_EQ(s.sync(), 0) << s.error();
    }
  }
  EXPECT_EQ(s.sync(), 0) << s.error();
  const std::string path = fmt::format("{}hccl_trace_{}_{}", testing::TempDir(), getpid(), r.rank);
  EXPECT_EQ(CANN(cann_sim_write_trace)(path.c_str()), 0) << s.error();
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  std::filesystem::remove(path);
  return text.str();
}

}  // namespace cann_test
