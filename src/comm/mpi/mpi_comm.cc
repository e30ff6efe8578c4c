#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "comm/job.h"
#include "comm/mpi/transport.h"

namespace longspan {
namespace {

// A sum of up to so many bytes from every rank is taken on every rank, which spares the second round of
// messages.
constexpr int64_t kSmallSum = 64 << 10;

void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

int64_t total(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::byte* bytes_of(std::span<float> data) {
  return reinterpret_cast<std::byte*>(data.data());
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<Transport> transport, std::vector<int32_t> ranks, int32_t channel,
                  std::optional<std::chrono::milliseconds> limit)
      : transport_(std::move(transport)),
        ranks_(std::move(ranks)),
        channel_(channel),
        limit_(limit),
        exchange_(std::make_shared<Exchange>(channel)) {
    const auto mine = std::find(ranks_.begin(), ranks_.end(), transport_->rank());
    check(mine != ranks_.end() && std::is_sorted(ranks_.begin(), ranks_.end()),
          "a group lists its ranks in order");
    check(channel >= 1, "channel 0 is the transport's own");
    rank_ = static_cast<int32_t>(mine - ranks_.begin());
  }

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return static_cast<int32_t>(ranks_.size()); }

  void barrier(std::string_view tag) override {
    begin("barrier", tag);
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, nullptr, 0);
      send(r, nullptr, 0);
    }
    run();
  }

  void start_all_gather_v(std::span<const std::byte> send_data, std::span<std::byte> recv,
                          std::span<const int64_t> recv_bytes, std::string_view tag) override {
    check(std::ssize(recv_bytes) == size(), "all_gather_v: one count per rank");
    check(total(recv_bytes) == std::ssize(recv), "all_gather_v: counts must add up to the receive buffer");
    begin("all_gather_v", tag);
    const int64_t mine = std::ssize(send_data);
    if (mine != recv_bytes[rank_]) disagree(recv_bytes[rank_], rank_, mine);
    std::byte* out = exchange_->outgoing.resize(mine);
    copy_bytes(out, send_data.data(), mine);
    std::byte* in = exchange_->incoming.resize(std::ssize(recv));
    copy_bytes(in + total(recv_bytes.first(rank_)), send_data.data(), mine);
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in, recv_bytes[r]);
      send(r, out, mine);
      in += recv_bytes[r];
    }
    transport_->start(exchange_);
    received_ = recv;
    started_ = true;
  }

  void start_shift(std::span<const std::byte> send_data, std::span<std::byte> recv,
                   std::string_view tag) override {
    begin("shift", tag);
    const int64_t mine = std::ssize(send_data);
    const int32_t next = (rank_ + 1) % size(), previous = (rank_ + size() - 1) % size();
    std::byte* out = exchange_->outgoing.resize(mine);
    copy_bytes(out, send_data.data(), mine);
    std::byte* in = exchange_->incoming.resize(std::ssize(recv));
    if (size() == 1) {
      if (mine != std::ssize(recv)) disagree(std::ssize(recv), rank_, mine);
      copy_bytes(in, out, mine);
    }
    receive(previous, in, std::ssize(recv));
    send(next, out, mine);
    transport_->start(exchange_);
    received_ = recv;
    started_ = true;
  }

  void wait() override {
    check(started_, "wait: nothing was started");
    started_ = false;
    const std::span<std::byte> recv = std::exchange(received_, {});
    transport_->await(*exchange_, limit_, what_);
    copy_bytes(recv.data(), exchange_->incoming.data(), std::ssize(recv));
  }

  // Rank r adds up part r and sends it to all.
  void all_reduce(std::span<float> data, std::string_view tag) override {
    const auto size_bytes = static_cast<int64_t>(data.size_bytes());
    if (size_bytes <= kSmallSum) return all_reduce_small(data, tag);
    const auto part_begin = [&](int32_t r) { return std::ssize(data) * r / size(); };
    begin("all_reduce", tag);
    const int64_t begin_at = part_begin(rank_), count = part_begin(rank_ + 1) - begin_at;
    copy_bytes(exchange_->outgoing.resize(size_bytes), bytes_of(data), size_bytes);
    add_parts(count, [&](int32_t r) { return Range{part_begin(r), part_begin(r + 1) - part_begin(r)}; });
    const std::span<float> sums = data.subspan(begin_at, count);
    sum_received(data.subspan(begin_at, count), sums);

    begin("all_reduce", tag);
    std::byte* out = exchange_->outgoing.resize(static_cast<int64_t>(sums.size_bytes()));
    copy_bytes(out, bytes_of(sums), static_cast<int64_t>(sums.size_bytes()));
    std::byte* in = exchange_->incoming.resize(size_bytes);
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in + part_begin(r) * kFloat, (part_begin(r + 1) - part_begin(r)) * kFloat);
      send(r, out, static_cast<int64_t>(sums.size_bytes()));
    }
    run();
    for (int32_t r = 0; r < size(); ++r) {
      if (r == rank_) continue;
      copy_bytes(bytes_of(data) + part_begin(r) * kFloat, in + part_begin(r) * kFloat,
                 (part_begin(r + 1) - part_begin(r)) * kFloat);
    }
  }

  void reduce_scatter_v(std::span<const float> send_data, std::span<float> recv,
                        std::span<const Range> ranges, std::string_view tag) override {
    check(std::ssize(ranges) == size(), "reduce_scatter_v: one range per rank");
    const Range mine = ranges[rank_];
    check(mine.count == std::ssize(recv), "reduce_scatter_v: the range must have the receive buffer's size");
    for (const Range& range : ranges)
      check(range.begin >= 0 && range.begin + range.count <= std::ssize(send_data),
            "reduce_scatter_v: range in send");
    begin("reduce_scatter_v", tag);
    const auto size_bytes = static_cast<int64_t>(send_data.size_bytes());
    copy_bytes(exchange_->outgoing.resize(size_bytes), reinterpret_cast<const std::byte*>(send_data.data()),
               size_bytes);
    add_parts(mine.count, [&](int32_t r) { return ranges[r]; });
    sum_received(send_data.subspan(mine.begin, mine.count), recv);
  }

  void all_to_all_v(std::span<const std::byte> send_data, std::span<const int64_t> send_bytes,
                    std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                    std::string_view tag) override {
    check(std::ssize(send_bytes) == size() && std::ssize(recv_bytes) == size(),
          "all_to_all_v: one count per rank");
    check(total(send_bytes) == std::ssize(send_data) && total(recv_bytes) == std::ssize(recv),
          "all_to_all_v: counts must add up to the buffers");
    begin("all_to_all_v", tag);
    if (send_bytes[rank_] != recv_bytes[rank_]) disagree(recv_bytes[rank_], rank_, send_bytes[rank_]);
    std::byte* out = exchange_->outgoing.resize(std::ssize(send_data));
    copy_bytes(out, send_data.data(), std::ssize(send_data));
    std::byte* in = exchange_->incoming.resize(std::ssize(recv));
    copy_bytes(in + total(recv_bytes.first(rank_)), out + total(send_bytes.first(rank_)), recv_bytes[rank_]);
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in, recv_bytes[r]);
      send(r, out, send_bytes[r]);
      in += recv_bytes[r];
      out += send_bytes[r];
    }
    run();
    copy_bytes(recv.data(), exchange_->incoming.data(), std::ssize(recv));
  }

  void broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) override {
    check(root >= 0 && root < size(), "broadcast: the root is a rank of the group");
    begin("broadcast", tag);
    if (rank_ == root) {
      std::byte* out = exchange_->outgoing.resize(std::ssize(data));
      copy_bytes(out, data.data(), std::ssize(data));
      for (int32_t r = 0; r < size(); ++r) send(r, out, std::ssize(data));
      return run();
    }
    std::byte* in = exchange_->incoming.resize(std::ssize(data));
    receive(root, in, std::ssize(data));
    run();
    copy_bytes(data.data(), in, std::ssize(data));
  }

  void abort(std::string_view reason) noexcept override { transport_->abort(reason); }

 private:
  static constexpr int64_t kFloat = sizeof(float);

  void begin(std::string_view collective, std::string_view tag) {
    check(!started_, "nothing else between start and wait");
    what_ = fmt::format("{} \"{}\"", collective, tag);
    transport_->require_alive(what_);
    if (!exchange_->ended()) exchange_ = std::make_shared<Exchange>(channel_);  // the last one was called off
    exchange_->messages.clear();
  }

  void send(int32_t r, std::byte* data, int64_t bytes) {
    if (r != rank_)
      exchange_->messages.push_back({.peer = ranks_[r], .incoming = false, .data = data, .bytes = bytes});
  }
  void receive(int32_t r, std::byte* data, int64_t bytes) {
    if (r != rank_)
      exchange_->messages.push_back({.peer = ranks_[r], .incoming = true, .data = data, .bytes = bytes});
  }

  void run() {
    transport_->start(exchange_);
    transport_->await(*exchange_, limit_, what_);
  }

  // Every rank's floats go to the ranks whose parts they are; `count` floats of this rank's part come from
  // each.
  template <typename PartOf>
  void add_parts(int64_t count, PartOf part_of) {
    std::byte* out = exchange_->outgoing.data();
    std::byte* in = exchange_->incoming.resize(count * kFloat * size());
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in + r * count * kFloat, count * kFloat);
      send(r, out + part_of(r).begin * kFloat, part_of(r).count * kFloat);
    }
    run();
  }

  // sums[i] = the sum of all ranks' floats i, in rank order: those that were received, and `mine`.
  void sum_received(std::span<const float> mine, std::span<float> sums) {
    const auto count = static_cast<int64_t>(mine.size());
    const auto* received = reinterpret_cast<const float*>(exchange_->incoming.data());
    float block[kBlock];
    for (int64_t at = 0; at < count; at += kBlock) {
      const int64_t n = std::min(kBlock, count - at);
      for (int32_t r = 0; r < size(); ++r) {
        const float* from = r == rank_ ? mine.data() + at : received + r * count + at;
        for (int64_t i = 0; i < n; ++i) block[i] = r == 0 ? from[i] : block[i] + from[i];
      }
      std::copy_n(block, n, sums.data() + at);
    }
  }

  void all_reduce_small(std::span<float> data, std::string_view tag) {
    const auto bytes = static_cast<int64_t>(data.size_bytes());
    begin("all_reduce", tag);
    copy_bytes(exchange_->outgoing.resize(bytes), bytes_of(data), bytes);
    add_parts(std::ssize(data), [&](int32_t) { return Range{0, std::ssize(data)}; });
    sum_received(data, data);
  }

  [[noreturn]] void disagree(int64_t expected, int32_t from, int64_t sent) {
    const std::string reason = fmt::format("rank {} expects {} bytes from rank {}, which sends {}",
                                           ranks_[rank_], expected, ranks_[from], sent);
    transport_->abort(reason);
    throw Error(ErrorCode::kRankLost, fmt::format("rank {} left {}: {}", transport_->rank(), what_, reason));
  }

  static constexpr int64_t kBlock = 512;  // floats

  const std::shared_ptr<Transport> transport_;
  const std::vector<int32_t> ranks_;  // in the job
  const int32_t channel_;
  const std::optional<std::chrono::milliseconds> limit_;
  int32_t rank_ = 0;
  std::string what_;  // the collective under way
  std::shared_ptr<Exchange> exchange_;
  std::span<std::byte> received_;  // where wait() puts it
  bool started_ = false;
};

class MpiJob final : public Job {
 public:
  explicit MpiJob(const JobOptions& options) : transport_(Transport::open(options)) {}
  ~MpiJob() override { transport_->close(); }

  int32_t rank() const override { return transport_->rank(); }
  int32_t size() const override { return transport_->size(); }

  std::unique_ptr<Communicator> make_group(std::vector<int32_t> ranks, int32_t channel,
                                           std::optional<std::chrono::milliseconds> limit) override {
    return std::make_unique<MpiCommunicator>(transport_, std::move(ranks), channel, limit);
  }

  void require_alive() override { transport_->require_alive("the wait for work"); }
  void leave() override { transport_->leave(); }

 private:
  const std::shared_ptr<Transport> transport_;
};

}  // namespace

bool mpi_is_there() {
  return true;
}

std::shared_ptr<Job> join_mpi_job(const JobOptions& options) {
  return std::make_shared<MpiJob>(options);
}

}  // namespace longspan
