#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace longspan::comm_contract {

/// What every implementation of Communicator must do. Each function is called by every rank of a group at the
/// same time.

inline std::string rank_lost_message(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRankLost);
    return error.what();
  }
  ADD_FAILURE() << "expected Error(kRankLost)";
  return "";
}

// Rank r sends (r * 5 + round) % 4 ints, so that some send nothing; one round sends megabytes.
inline void all_gather_v_concatenates_in_rank_order(Communicator& comm) {
  for (int round = 0; round < 50; ++round) {
    const auto count = [&](int r) { return (r * 5 + round) % 4 * (round == 10 ? 300'001 : 1); };
    std::vector<int32_t> send(count(comm.rank()), comm.rank() * 1000 + round);
    std::vector<int64_t> bytes;
    std::vector<int32_t> expected;
    for (int r = 0; r < comm.size(); ++r) {
      bytes.push_back(count(r) * 4);
      expected.insert(expected.end(), count(r), r * 1000 + round);
    }
    std::vector<int32_t> recv(expected.size());
    comm.all_gather_v(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), bytes, "test");
    EXPECT_EQ(recv, expected);
    std::fill(send.begin(), send.end(), -1);  // must not reach anybody any more
  }
}

// Between the halves of a gather other groups may meet.
inline void a_gather_in_two_halves_lets_others_pass(Communicator& comm, Communicator& other) {
  for (int round = 0; round < 20; ++round) {
    std::vector<int64_t> counts(comm.size(), 4 * 1000);
    std::vector<int32_t> send(1000, comm.rank() + round), recv(1000 * comm.size());
    comm.start_all_gather_v(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), counts,
                            "kv");
    counts.clear();  // was copied
    std::vector<float> sum = {1};
    other.all_reduce(sum, "meanwhile");
    EXPECT_EQ(sum[0], static_cast<float>(other.size()));
    comm.wait();
    for (int32_t r = 0; r < comm.size(); ++r) {
      EXPECT_EQ(recv[r * 1000], r + round);
      EXPECT_EQ(recv[r * 1000 + 999], r + round);
    }
  }
}

// Rank r sends (r * 5 + round) % 4 ints, so that some send nothing; one round sends megabytes. Once round the
// group everyone has its own again.
inline void a_shift_goes_to_the_next_rank(Communicator& comm, Communicator& other) {
  const int32_t size = comm.size();
  for (int round = 0; round < 20; ++round) {
    const auto count = [&](int r) { return (r * 5 + round) % 4 * (round == 10 ? 300'001 : 1); };
    std::vector<int32_t> send(count(comm.rank()), comm.rank() * 1000 + round);
    for (int32_t step = 1; step <= size; ++step) {
      const int32_t from = (comm.rank() + size - step) % size;
      std::vector<int32_t> recv(count(from), -1);
      comm.start_shift(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), "ring");
      std::vector<float> sum = {1};
      other.all_reduce(sum, "meanwhile");
      comm.wait();
      EXPECT_EQ(recv, std::vector<int32_t>(count(from), from * 1000 + round));
      send = std::move(recv);
    }
  }
}

// Sums whose value depends on the order they are taken in: every rank must get the bits of rank order.
inline void reductions_of_sizes_add_in_rank_order(Communicator& comm, const std::vector<int64_t>& counts) {
  const int32_t size = comm.size();
  for (const int64_t count : counts) {
    const auto value = [](int64_t rank, int64_t i) {
      return (rank % 2 ? -1.0f : 1.0f) * 1e7f + static_cast<float>(rank * 3 + i % 1000) / 7.0f;
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
}

inline void reductions_add_in_rank_order(Communicator& comm) {
  reductions_of_sizes_add_in_rank_order(comm, {0, 1, 2, 7, 1500, 16384, 16385, 100'003});
}

// Rank a sends (a + 2 b) % 3 ints to rank b.
inline void all_to_all_v_delivers_by_source(Communicator& comm) {
  const auto count = [](int32_t from, int32_t to) { return (from + 2 * to) % 3; };
  std::vector<int32_t> send, expected;
  std::vector<int64_t> send_bytes, recv_bytes;
  for (int32_t r = 0; r < comm.size(); ++r) {
    send.insert(send.end(), count(comm.rank(), r), comm.rank() * 100 + r);
    send_bytes.push_back(count(comm.rank(), r) * 4);
    expected.insert(expected.end(), count(r, comm.rank()), r * 100 + comm.rank());
    recv_bytes.push_back(count(r, comm.rank()) * 4);
  }
  std::vector<int32_t> recv(expected.size());
  comm.all_to_all_v(std::as_bytes(std::span(send)), send_bytes, std::as_writable_bytes(std::span(recv)),
                    recv_bytes, "test");
  EXPECT_EQ(recv, expected);
}

// Rank a sends (a + 2 b + round) % 3 * 1000 ints to rank b; meanwhile other groups meet.
inline void an_all_to_all_in_two_halves_lets_others_pass(Communicator& comm, Communicator& other) {
  for (int round = 0; round < 20; ++round) {
    const auto count = [&](int32_t from, int32_t to) { return (from + 2 * to + round) % 3 * 1000; };
    std::vector<int32_t> send, expected;
    std::vector<int64_t> send_bytes, recv_bytes;
    for (int32_t r = 0; r < comm.size(); ++r) {
      send.insert(send.end(), count(comm.rank(), r), comm.rank() * 100 + r + round);
      send_bytes.push_back(count(comm.rank(), r) * 4);
      expected.insert(expected.end(), count(r, comm.rank()), r * 100 + comm.rank() + round);
      recv_bytes.push_back(count(r, comm.rank()) * 4);
    }
    std::vector<int32_t> recv(expected.size());
    comm.start_all_to_all_v(std::as_bytes(std::span(send)), send_bytes,
                            std::as_writable_bytes(std::span(recv)), recv_bytes, "rows");
    send_bytes.clear();  // were copied
    recv_bytes.clear();
    std::vector<float> sum = {1};
    other.all_reduce(sum, "meanwhile");
    comm.wait();
    EXPECT_EQ(recv, expected);
  }
}

// Rank r sends (r + root) % 3 ints to the root.
inline void gather_v_brings_all_to_the_root(Communicator& comm) {
  for (int32_t root = 0; root < comm.size(); ++root) {
    const auto count = [&](int32_t r) { return (r + root) % 3; };
    const std::vector<int32_t> send(count(comm.rank()), comm.rank() * 10 + root);
    std::vector<int32_t> expected;
    std::vector<int64_t> bytes;
    for (int32_t r = 0; comm.rank() == root && r < comm.size(); ++r) {
      bytes.push_back(count(r) * 4);
      expected.insert(expected.end(), count(r), r * 10 + root);
    }
    std::vector<int32_t> recv(expected.size());
    comm.gather_v(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), bytes, root,
                  "test");
    EXPECT_EQ(recv, expected);
  }
}

inline void broadcast_gives_all_the_roots_data(Communicator& comm) {
  for (int32_t root = 0; root < comm.size(); ++root) {
    std::vector<int32_t> data(root, comm.rank());  // root 0: nothing at all
    comm.broadcast(std::as_writable_bytes(std::span(data)), root, "test");
    EXPECT_EQ(data, std::vector<int32_t>(root, root));
  }
}

inline std::string sizes_that_disagree_end_a_reduction(Communicator& comm) {
  std::vector<float> data(comm.rank() + 1);
  const std::string message = rank_lost_message([&] { comm.all_reduce(data, "sum"); });
  EXPECT_THAT(message, testing::HasSubstr("sum"));
  return message;
}

// In a group of two.
inline void counts_that_disagree_name_both_ranks(Communicator& comm) {
  const std::vector<std::byte> send(comm.rank() == 0 ? 8 : 4);
  std::vector<std::byte> recv(8 + 8);
  const std::vector<int64_t> bytes = {8, 8};
  const std::string message = rank_lost_message([&] { comm.all_gather_v(send, recv, bytes, "kv"); });
  EXPECT_THAT(message, testing::HasSubstr("expects 8 bytes from rank 1, which sends 4"));
}

// In a group of three or more.
inline void abort_releases_waiting_ranks_with_the_reason(Communicator& comm) {
  if (comm.rank() == 1) {
    comm.abort("rank 1 failed: bad page");
    comm.abort("a later reason");
    return;
  }
  const std::string message = rank_lost_message([&] { comm.barrier("kv of layer 5"); });
  EXPECT_THAT(message, testing::HasSubstr("kv of layer 5"));
  EXPECT_THAT(message, testing::HasSubstr("rank 1 failed: bad page"));
  EXPECT_THAT(rank_lost_message([&] { comm.barrier("next"); }), testing::HasSubstr("bad page"));
}

}  // namespace longspan::comm_contract
