#include <fmt/format.h>
#include <longspan/error.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <numeric>

#include "base/check.h"
#include "comm/communicator.h"

namespace longspan {
namespace {

// Long enough to catch ranks that finish a layer together, short enough not to hold a core that another
// needs.
constexpr int kSpins = 2000;

class ThreadsGroup {
 public:
  ThreadsGroup(int32_t size, std::chrono::milliseconds timeout) : timeout_(timeout), sends_(size) {}

  int32_t size() const { return static_cast<int32_t>(sends_.size()); }
  std::span<const std::byte>& send_of(int32_t rank) { return sends_[rank]; }

  void barrier(int32_t rank, std::string_view collective, std::string_view tag) {
    uint64_t generation;
    {
      std::unique_lock lock(mutex_);
      throw_if_dead(rank, collective, tag);
      generation = generation_.load(std::memory_order_relaxed);
      if (++arrived_ == size()) {
        arrived_ = 0;
        generation_.store(generation + 1, std::memory_order_release);
        lock.unlock();
        released_.notify_all();
        return;
      }
    }
    for (int spin = 0; spin < kSpins; ++spin) {
      if (generation_.load(std::memory_order_acquire) != generation) return;
    }
    std::unique_lock lock(mutex_);
    const auto passed = [&] { return generation_.load(std::memory_order_relaxed) != generation; };
    if (!released_.wait_for(lock, timeout_, [&] { return passed() || !dead_.empty(); })) {
      dead_ = fmt::format("{} of {} ranks reached {} \"{}\" within {} ms; rank {} gave up waiting", arrived_,
                          size(), collective, tag, timeout_.count(), rank);
      released_.notify_all();
    }
    if (!passed()) throw_if_dead(rank, collective, tag);
  }

  void abort(std::string_view reason) {
    {
      const std::lock_guard lock(mutex_);
      if (dead_.empty()) dead_ = reason.empty() ? "aborted" : reason;
    }
    released_.notify_all();
  }

 private:
  void throw_if_dead(int32_t rank, std::string_view collective, std::string_view tag) const {
    if (dead_.empty()) return;
    throw Error(ErrorCode::kRankLost,
                fmt::format("rank {} left {} \"{}\": {}", rank, collective, tag, dead_));
  }

  const std::chrono::milliseconds timeout_;
  std::vector<std::span<const std::byte>>
      sends_;  // written by its rank before a barrier, read by all after it
  std::mutex mutex_;
  std::condition_variable released_;
  int32_t arrived_ = 0;
  std::atomic<uint64_t> generation_ = 0;
  std::string dead_;  // why, once the group is
};

class ThreadsCommunicator final : public Communicator {
 public:
  ThreadsCommunicator(std::shared_ptr<ThreadsGroup> group, int32_t rank)
      : group_(std::move(group)), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return group_->size(); }

  void barrier(std::string_view tag) override { group_->barrier(rank_, "barrier", tag); }

  void all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                    std::span<const int64_t> recv_bytes, std::string_view tag) override {
    check(std::ssize(recv_bytes) == size(), "all_gather_v: one count per rank");
    check(std::accumulate(recv_bytes.begin(), recv_bytes.end(), int64_t{0}) == std::ssize(recv),
          "all_gather_v: counts must add up to the receive buffer");
    group_->send_of(rank_) = send;
    group_->barrier(rank_, "all_gather_v", tag);
    std::byte* out = recv.data();
    for (int32_t r = 0; r < size(); ++r) {
      const std::span<const std::byte> from = group_->send_of(r);
      if (std::ssize(from) != recv_bytes[r]) {
        const std::string reason = fmt::format("rank {} expects {} bytes from rank {}, which sends {}", rank_,
                                               recv_bytes[r], r, from.size());
        group_->abort(reason);
        throw Error(ErrorCode::kRankLost, fmt::format("all_gather_v \"{}\": {}", tag, reason));
      }
      if (!from.empty()) std::memcpy(out, from.data(), from.size());
      out += recv_bytes[r];
    }
    group_->barrier(rank_, "all_gather_v", tag);  // nobody's send buffer is reused before all have copied it
  }

  void abort(std::string_view reason) noexcept override { group_->abort(reason); }

 private:
  std::shared_ptr<ThreadsGroup> group_;
  int32_t rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_threads_group(int32_t size,
                                                              std::chrono::milliseconds timeout) {
  check(size >= 1, "a group has at least one rank");
  auto group = std::make_shared<ThreadsGroup>(size, timeout);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int32_t r = 0; r < size; ++r) ranks.push_back(std::make_unique<ThreadsCommunicator>(group, r));
  return ranks;
}

}  // namespace longspan
