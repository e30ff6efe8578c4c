#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "comm/communicator.h"

namespace longspan {

/// What all implementations of Communicator check and say alike. Broken rules of one caller are `check`s.

int64_t total(std::span<const int64_t> counts);

/// That the counts are those of `ranks` ranks and add up to the receive buffer.
void check_gather(int32_t ranks, std::span<const int64_t> recv_bytes, std::span<const std::byte> recv);
void check_gather_at(int32_t root, int32_t rank, int32_t ranks, std::span<const int64_t> recv_bytes,
                     std::span<const std::byte> recv);
void check_all_to_all(int32_t ranks, std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                      std::span<const std::byte> recv, std::span<const int64_t> recv_bytes);
/// That all ranges lie within `send`, and that this rank's has the size of `recv`.
void check_reduce_scatter(int32_t rank, int32_t ranks, std::span<const float> send,
                          std::span<const float> recv, std::span<const Communicator::Range> ranges);

/// What ends a group whose ranks disagree; with `or_more` the sender's message may be longer still.
std::string sizes_disagree(int32_t rank, int64_t expected, int32_t from, int64_t sent, bool or_more = false);

/// Adds up floats [begin, end) of every rank in rank order. `floats_of(r)` points to float 0 of rank r;
/// `done(at, sums)` gets the sums of a block that starts at float `at`, and may write over what they are of.
template <class FloatsOf, class Done>
void add_up(int32_t ranks, int64_t begin, int64_t end, FloatsOf floats_of, Done done) {
  constexpr int64_t kBlock = 512;
  float sums[kBlock];
  for (int64_t at = begin; at < end; at += kBlock) {
    const int64_t count = std::min(kBlock, end - at);
    for (int32_t r = 0; r < ranks; ++r) {
      const float* from = floats_of(r) + at;
      for (int64_t i = 0; i < count; ++i) sums[i] = r == 0 ? from[i] : sums[i] + from[i];
    }
    done(at, std::span<const float>(sums, static_cast<size_t>(count)));
  }
}

}  // namespace longspan
