#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"
#include "comm/collective_rules.h"
#include "comm/communicator.h"

namespace longspan {
namespace {

// Long enough to catch ranks that finish a layer together, short enough not to hold a core that another
// needs.
constexpr int kBarrierSpins = 2000;

// What a rank lays open to the others for one collective.
struct Post {
  const std::byte* send = nullptr;
  int64_t bytes = 0;
  std::byte* recv = nullptr;                 // all_reduce: where the others may write
  std::span<const int64_t> send_bytes = {};  // all_to_all_v: of each target
};

class ThreadsGroup {
 public:
  ThreadsGroup(int32_t size, std::chrono::milliseconds timeout) : timeout_(timeout), posts_(size) {}

  int32_t size() const { return static_cast<int32_t>(posts_.size()); }
  Post& post_of(int32_t rank) { return posts_[rank]; }

  // The last rank to arrive calls `before_release`.
  void barrier(
      int32_t rank, std::string_view collective, std::string_view tag,
      const std::function<void()>& before_release = [] {}) {
    uint64_t generation;
    {
      std::unique_lock lock(mutex_);
      throw_if_dead(rank, collective, tag);
      generation = generation_.load(std::memory_order_relaxed);
      if (++arrived_ == size()) {
        arrived_ = 0;
        before_release();
        generation_.store(generation + 1, std::memory_order_release);
        lock.unlock();
        released_.notify_all();
        return;
      }
    }
    for (int spin = 0; spin < kBarrierSpins; ++spin) {
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

  // A barrier after which every rank may touch what the others have posted, until it calls `finish`.
  void start(int32_t rank, std::string_view collective, std::string_view tag) {
    barrier(rank, collective, tag, [this] { touching_.store(size(), std::memory_order_relaxed); });
  }

  // Returns once nobody touches what this rank has posted. Not bounded by the time limit, and not cut short
  // by `abort`: between `start` and `finish` a rank only copies and adds, and its buffers must outlive that.
  void finish() noexcept {
    if (touching_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      { const std::lock_guard lock(mutex_); }  // a rank about to wait either sees zero or is woken
      released_.notify_all();
      return;
    }
    const auto done = [this] { return touching_.load(std::memory_order_acquire) == 0; };
    for (int spin = 0; spin < kBarrierSpins; ++spin) {
      if (done()) return;
    }
    std::unique_lock lock(mutex_);
    released_.wait(lock, done);
  }

  void require_alive(int32_t rank, std::string_view collective, std::string_view tag) {
    const std::lock_guard lock(mutex_);
    throw_if_dead(rank, collective, tag);
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
  std::vector<Post> posts_;  // written by its rank before a barrier, read by all after it
  std::mutex mutex_;
  std::condition_variable released_;
  int32_t arrived_ = 0;
  std::atomic<uint64_t> generation_ = 0;
  std::atomic<int32_t> touching_ = 0;  // ranks between start and finish
  std::string dead_;                   // why, once the group is
};

class ThreadsCommunicator final : public Communicator {
 public:
  ThreadsCommunicator(std::shared_ptr<ThreadsGroup> group, int32_t rank)
      : group_(std::move(group)), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return group_->size(); }

  void barrier(std::string_view tag) override { group_->barrier(rank_, "barrier", tag); }

  // Copying needs all ranks: nothing moves before wait().
  void start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                          std::span<const int64_t> recv_bytes, std::string_view tag) override {
    check_gather(size(), recv_bytes, recv);
    start({.send = send,
           .recv = recv,
           .recv_bytes = {recv_bytes.begin(), recv_bytes.end()},
           .tag = std::string(tag),
           .collective = "all_gather_v"});
  }

  void start_shift(std::span<const std::byte> send, std::span<std::byte> recv,
                   std::string_view tag) override {
    start({.send = send,
           .recv = recv,
           .recv_bytes = {std::ssize(recv)},
           .tag = std::string(tag),
           .collective = "shift"});
  }

  void start_all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                          std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                          std::string_view tag) override {
    check_all_to_all(size(), send, send_bytes, recv, recv_bytes);
    start({.send = send,
           .send_bytes = {send_bytes.begin(), send_bytes.end()},
           .recv = recv,
           .recv_bytes = {recv_bytes.begin(), recv_bytes.end()},
           .tag = std::string(tag),
           .collective = "all_to_all_v"});
  }

  void wait() override {
    check(started_.has_value(), "wait: nothing was started");
    const Started started = *std::exchange(started_, std::nullopt);
    const auto& [send, send_bytes, recv, recv_bytes, tag, collective] = started;
    const Post mine = {.send = send.data(), .bytes = std::ssize(send), .send_bytes = send_bytes};
    exchange(mine, collective, tag, [&] {
      if (collective == "all_gather_v") return copy_posts(recv, recv_bytes, collective, tag);
      if (collective == "all_to_all_v") return copy_parts(recv, recv_bytes, collective, tag);
      const int32_t from = (rank_ + size() - 1) % size();
      const Post& post = group_->post_of(from);
      if (post.bytes != recv_bytes[0]) disagree(collective, tag, recv_bytes[0], from, post.bytes);
      copy(recv.data(), post.send, post.bytes);
    });
  }

  // Rank r adds up part r and writes it into every rank's buffer: each float is read and written by one rank.
  void all_reduce(std::span<float> data, std::string_view tag) override {
    auto* bytes = reinterpret_cast<std::byte*>(data.data());
    const auto size_bytes = static_cast<int64_t>(data.size_bytes());
    exchange({.send = bytes, .bytes = size_bytes, .recv = bytes}, "all_reduce", tag, [&] {
      require_equal_posts("all_reduce", tag, size_bytes);
      const int64_t count = std::ssize(data);
      const int64_t begin = count * rank_ / size(), end = count * (rank_ + 1) / size();
      add_posts(begin, end, [&](int64_t at, std::span<const float> sums) {
        for (int32_t r = 0; r < size(); ++r)
          std::memcpy(reinterpret_cast<float*>(group_->post_of(r).recv) + at, sums.data(), sums.size_bytes());
      });
    });
  }

  void reduce_scatter_v(std::span<const float> send, std::span<float> recv, std::span<const Range> ranges,
                        std::string_view tag) override {
    check_reduce_scatter(rank_, size(), send, recv, ranges);
    const Range mine = ranges[rank_];
    const auto size_bytes = static_cast<int64_t>(send.size_bytes());
    const auto* bytes = reinterpret_cast<const std::byte*>(send.data());
    exchange({.send = bytes, .bytes = size_bytes}, "reduce_scatter_v", tag, [&] {
      require_equal_posts("reduce_scatter_v", tag, size_bytes);
      add_posts(mine.begin, mine.begin + mine.count, [&](int64_t at, std::span<const float> sums) {
        std::copy(sums.begin(), sums.end(), recv.begin() + (at - mine.begin));
      });
    });
  }

  void gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) override {
    check_gather_at(root, rank_, size(), recv_bytes, recv);
    exchange({.send = send.data(), .bytes = std::ssize(send)}, "gather_v", tag, [&] {
      if (rank_ == root) copy_posts(recv, recv_bytes, "gather_v", tag);
    });
  }

  void broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) override {
    check(root >= 0 && root < size(), "broadcast: the root is a rank of the group");
    exchange({.send = data.data(), .bytes = std::ssize(data)}, "broadcast", tag, [&] {
      require_equal_posts("broadcast", tag, std::ssize(data));
      if (rank_ != root) copy(data.data(), group_->post_of(root).send, std::ssize(data));
    });
  }

  void abort(std::string_view reason) noexcept override { group_->abort(reason); }

 private:
  static void copy(std::byte* to, const std::byte* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }

  // Lays `mine` open, runs `body` beside the other ranks, and returns or throws only when no rank touches
  // what this one laid open.
  template <typename Body>
  void exchange(const Post& mine, std::string_view collective, std::string_view tag, Body&& body) {
    group_->post_of(rank_) = mine;
    group_->start(rank_, collective, tag);
    {
      struct Finish {
        ThreadsGroup& group;
        ~Finish() { group.finish(); }
      } finish{*group_};
      body();
    }
    group_->require_alive(rank_, collective, tag);
  }

  [[noreturn]] void disagree(std::string_view collective, std::string_view tag, int64_t expected,
                             int32_t from, int64_t sent) {
    const std::string reason = sizes_disagree(rank_, expected, from, sent);
    group_->abort(reason);
    throw Error(ErrorCode::kRankLost, fmt::format("{} \"{}\": {}", collective, tag, reason));
  }

  void require_equal_posts(std::string_view collective, std::string_view tag, int64_t bytes) {
    for (int32_t r = 0; r < size(); ++r)
      if (group_->post_of(r).bytes != bytes) disagree(collective, tag, bytes, r, group_->post_of(r).bytes);
  }

  void copy_posts(std::span<std::byte> recv, std::span<const int64_t> recv_bytes, std::string_view collective,
                  std::string_view tag) {
    std::byte* out = recv.data();
    for (int32_t r = 0; r < size(); ++r) {
      const Post& from = group_->post_of(r);
      if (from.bytes != recv_bytes[r]) disagree(collective, tag, recv_bytes[r], r, from.bytes);
      copy(out, from.send, from.bytes);
      out += recv_bytes[r];
    }
  }

  // Of every rank's `send` the part that is meant for this one.
  void copy_parts(std::span<std::byte> recv, std::span<const int64_t> recv_bytes, std::string_view collective,
                  std::string_view tag) {
    std::byte* out = recv.data();
    for (int32_t r = 0; r < size(); ++r) {
      const Post& from = group_->post_of(r);
      const int64_t bytes = from.send_bytes[rank_];
      if (bytes != recv_bytes[r]) disagree(collective, tag, recv_bytes[r], r, bytes);
      copy(out, from.send + total(from.send_bytes.first(rank_)), bytes);
      out += bytes;
    }
  }

  template <typename Done>
  void add_posts(int64_t begin, int64_t end, Done done) {
    const auto floats_of = [&](int32_t r) { return reinterpret_cast<const float*>(group_->post_of(r).send); };
    add_up(size(), begin, end, floats_of, done);
  }

  struct Started {
    std::span<const std::byte> send;
    std::vector<int64_t> send_bytes = {};  // all_to_all_v
    std::span<std::byte> recv;
    std::vector<int64_t> recv_bytes;
    std::string tag;
    std::string_view collective;
  };

  void start(Started what) {
    check(!started_, "one at a time between start and wait");
    started_ = std::move(what);
  }

  std::shared_ptr<ThreadsGroup> group_;
  int32_t rank_;
  std::optional<Started> started_;
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
