#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longspan {

/// Collectives over one group of `size()` ranks, of which this object speaks for one. Every rank of the group
/// calls the same collectives in the same order; `tag` names the call in errors. Each blocks until it is
/// done, and throws Error(kRankLost) naming rank, collective, tag and reason when the time limit passes or
/// some rank has called abort(). After that the group is dead: every later call throws the same reason.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;

  virtual void barrier(std::string_view tag) = 0;

  /// recv = the concatenation of every rank's `send` in rank order, recv_bytes[r] bytes from rank r (exact
  /// counts, no padding; recv_bytes[rank()] == send.size()). `recv` may not overlap `send`.
  virtual void all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                            std::span<const int64_t> recv_bytes, std::string_view tag) = 0;

  /// Releases every rank that waits in this group. Never throws; the first reason is kept.
  virtual void abort(std::string_view reason) noexcept = 0;
};

/// Ranks that are threads of this process, one communicator each. They copy: no rank ever reads another's
/// buffer after all_gather_v has returned there.
std::vector<std::unique_ptr<Communicator>> make_threads_group(int32_t size,
                                                              std::chrono::milliseconds timeout);

}  // namespace longspan
