#include "comm/collective_rules.h"

#include <fmt/format.h>

#include <numeric>

#include "base/check.h"

namespace longspan {

int64_t total(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

void check_gather(int32_t ranks, std::span<const int64_t> recv_bytes, std::span<const std::byte> recv) {
  check(std::ssize(recv_bytes) == ranks, "a gather has one count per rank");
  check(total(recv_bytes) == std::ssize(recv), "a gather's counts add up to the receive buffer");
}

void check_gather_at(int32_t root, int32_t rank, int32_t ranks, std::span<const int64_t> recv_bytes,
                     std::span<const std::byte> recv) {
  check(root >= 0 && root < ranks, "gather_v: the root is a rank of the group");
  if (rank == root) return check_gather(ranks, recv_bytes, recv);
  check(recv.empty() && recv_bytes.empty(), "gather_v: the root alone receives");
}

void check_all_to_all(int32_t ranks, std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                      std::span<const std::byte> recv, std::span<const int64_t> recv_bytes) {
  check(std::ssize(send_bytes) == ranks && std::ssize(recv_bytes) == ranks,
        "all_to_all_v: one count per rank");
  check(total(send_bytes) == std::ssize(send) && total(recv_bytes) == std::ssize(recv),
        "all_to_all_v: counts must add up to the buffers");
}

void check_reduce_scatter(int32_t rank, int32_t ranks, std::span<const float> send,
                          std::span<const float> recv, std::span<const Communicator::Range> ranges) {
  check(std::ssize(ranges) == ranks, "reduce_scatter_v: one range per rank");
  check(ranges[rank].count == std::ssize(recv),
        "reduce_scatter_v: the range must have the receive buffer's size");
  for (const Communicator::Range& range : ranges)
    check(range.begin >= 0 && range.begin + range.count <= std::ssize(send),
          "reduce_scatter_v: range in send");
}

std::string sizes_disagree(int32_t rank, int64_t expected, int32_t from, int64_t sent, bool or_more) {
  return fmt::format("rank {} expects {} bytes from rank {}, which sends {}{}", rank, expected, from,
                     or_more ? "at least " : "", sent);
}

}  // namespace longspan
