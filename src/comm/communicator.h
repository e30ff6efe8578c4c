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
/// done, those named start_ excepted, and throws Error(kRankLost) naming rank, collective, tag and reason
/// when the time limit passes or some rank has called abort(). After that the group is dead: every later call
/// throws the same reason. A buffer is the caller's again when the call that got it returns or throws.
///
/// Where ranks have a device each (Device::join_group) buffers are the device's, and "done", "until" and
/// "again" are meant in the order of the rank's stream there: nothing here waits for the device.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;
  /// Whether all_gather_v of counts that differ costs copies on either side: then equal ones are better.
  virtual bool pads_gathers() const { return false; }

  virtual void barrier(std::string_view tag) = 0;

  /// recv = the concatenation of every rank's `send` in rank order, recv_bytes[r] bytes from rank r (exact
  /// counts, no padding; recv_bytes[rank()] == send.size()). `recv` may not overlap `send`.
  void all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                    std::span<const int64_t> recv_bytes, std::string_view tag) {
    start_all_gather_v(send, recv, recv_bytes, tag);
    wait();
  }

  /// The same in two halves, between which the caller computes while bytes travel. Until wait() returns or
  /// throws, both buffers stay as they are and this communicator is asked for nothing else. `recv_bytes` and
  /// `tag` are copied.
  virtual void start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                                  std::span<const int64_t> recv_bytes, std::string_view tag) = 0;
  /// Round the group in two halves: `send` goes to the next rank (rank 0 after the last), recv is what the
  /// previous one sends. `recv` may not overlap `send`.
  virtual void start_shift(std::span<const std::byte> send, std::span<std::byte> recv,
                           std::string_view tag) = 0;
  /// The end of what was started last.
  virtual void wait() = 0;

  /// Every rank's data[i] becomes the sum of all ranks' data[i], added in rank order, so that all get the
  /// same bits. Equal sizes.
  virtual void all_reduce(std::span<float> data, std::string_view tag) = 0;

  /// Floats [begin, begin + count) of a group's send buffers.
  struct Range {
    int64_t begin = 0, count = 0;
  };
  /// recv[i] = the sum of all ranks' send[begin + i], added in rank order, for this rank's range of `ranges`
  /// [size()]. Ranges may overlap (ranks that want the same sums) or leave gaps. Equal send sizes; `recv` may
  /// not overlap `send`.
  virtual void reduce_scatter_v(std::span<const float> send, std::span<float> recv,
                                std::span<const Range> ranges, std::string_view tag) = 0;

  /// send = what goes to each rank, in rank order, send_bytes[r] bytes to rank r; recv likewise by source.
  void all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                    std::span<std::byte> recv, std::span<const int64_t> recv_bytes, std::string_view tag) {
    start_all_to_all_v(send, send_bytes, recv, recv_bytes, tag);
    wait();
  }
  /// The same in two halves, as for a gather. Counts and `tag` are copied.
  virtual void start_all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                                  std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                                  std::string_view tag) = 0;

  /// At rank `root`, recv = the concatenation of every rank's `send` in rank order, recv_bytes[r] bytes from
  /// rank r. The others give no `recv` and no `recv_bytes`.
  virtual void gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                        std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) = 0;

  /// `data` of rank `root` goes to all. Equal sizes.
  virtual void broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) = 0;

  /// Releases every rank that waits in this group. Never throws; the first reason is kept.
  virtual void abort(std::string_view reason) noexcept = 0;
};

/// Ranks that are threads of this process, one communicator each. They copy: no rank ever reads or
/// writes another's buffer after a collective has returned there.
std::vector<std::unique_ptr<Communicator>> make_threads_group(int32_t size,
                                                              std::chrono::milliseconds timeout);

}  // namespace longspan
