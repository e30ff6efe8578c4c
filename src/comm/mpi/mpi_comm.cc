#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "comm/collective_rules.h"
#include "comm/job.h"
#include "comm/mpi/transport.h"
#include "comm/staging.h"

namespace longspan {
namespace {

void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

const std::byte* bytes_of(std::span<const float> data) {
  return reinterpret_cast<const std::byte*>(data.data());
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<Transport> transport, std::vector<int32_t> ranks, int32_t channel,
                  std::optional<std::chrono::milliseconds> limit)
      : transport_(std::move(transport)),
        ranks_(std::move(ranks)),
        channel_(channel),
        limit_(limit),
        exchange_(transport_->make_exchange(channel)) {
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
    check_gather(size(), recv_bytes, recv);
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

  void all_reduce(std::span<float> data, std::string_view tag) override {
    constexpr int64_t kFloats = kSumRound / kFloat;
    int64_t at = 0;
    do {
      sum_of_all(data.subspan(at, std::min(kFloats, std::ssize(data) - at)), tag);
      at += kFloats;
    } while (at < std::ssize(data));
  }

  void reduce_scatter_v(std::span<const float> send_data, std::span<float> recv,
                        std::span<const Range> ranges, std::string_view tag) override {
    check_reduce_scatter(rank_, size(), send_data, recv, ranges);
    const int64_t floats = kSumRound / kFloat / size();
    int64_t longest = 0;
    for (const Range& range : ranges) longest = std::max(longest, range.count);
    int64_t at = 0;
    do {
      const auto part_of = [&](int32_t r) {
        const int64_t from = std::min(at, ranges[r].count);
        return Range{ranges[r].begin + from, std::min(floats, ranges[r].count - from)};
      };
      begin("reduce_scatter_v", tag);
      add_parts(send_data, recv.subspan(std::min(at, std::ssize(recv)), part_of(rank_).count), part_of);
      at += floats;
    } while (at < longest);
  }

  void start_all_to_all_v(std::span<const std::byte> send_data, std::span<const int64_t> send_bytes,
                          std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                          std::string_view tag) override {
    check_all_to_all(size(), send_data, send_bytes, recv, recv_bytes);
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
    transport_->start(exchange_);
    received_ = recv;
    started_ = true;
  }

  void gather_v(std::span<const std::byte> send_data, std::span<std::byte> recv,
                std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) override {
    check_gather_at(root, rank_, size(), recv_bytes, recv);
    begin("gather_v", tag);
    const int64_t mine = std::ssize(send_data);
    if (rank_ != root) {
      std::byte* out = exchange_->outgoing.resize(mine);
      copy_bytes(out, send_data.data(), mine);
      send(root, out, mine);
      return run();
    }
    if (mine != recv_bytes[rank_]) disagree(recv_bytes[rank_], rank_, mine);
    std::byte* in = exchange_->incoming.resize(std::ssize(recv));
    copy_bytes(in + total(recv_bytes.first(rank_)), send_data.data(), mine);
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in, recv_bytes[r]);
      in += recv_bytes[r];
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
    if (!exchange_->ended()) exchange_ = transport_->make_exchange(channel_);  // the last one was called off
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

  // Every rank's part_of(r) goes to rank r, which adds them up.
  template <typename PartOf>
  void add_parts(std::span<const float> data, std::span<float> sums, PartOf part_of) {
    int64_t sent = 0;
    for (int32_t r = 0; r < size(); ++r)
      if (r != rank_) sent += part_of(r).count;
    const Range mine = part_of(rank_);
    std::byte* out = exchange_->outgoing.resize(sent * kFloat);
    std::byte* in = exchange_->incoming.resize(mine.count * kFloat * size());
    for (int32_t r = 0; r < size(); ++r) {
      if (r == rank_) continue;
      const Range part = part_of(r);
      copy_bytes(out, bytes_of(data) + part.begin * kFloat, part.count * kFloat);
      receive(r, in + r * mine.count * kFloat, mine.count * kFloat);
      send(r, out, part.count * kFloat);
      out += part.count * kFloat;
    }
    run();
    const auto* received = reinterpret_cast<const float*>(in);
    const auto floats_of = [&](int32_t r) {
      return r == rank_ ? data.data() + mine.begin : received + r * mine.count;
    };
    add_up(size(), 0, mine.count, floats_of, [&](int64_t at, std::span<const float> block) {
      std::copy(block.begin(), block.end(), sums.begin() + at);
    });
  }

  // Rank r adds up part r and sends it to all; or everybody everything.
  void sum_of_all(std::span<float> data, std::string_view tag) {
    begin("all_reduce", tag);
    if (static_cast<int64_t>(data.size_bytes()) <= kSmallSum)
      return add_parts(data, data, [&](int32_t) { return Range{0, std::ssize(data)}; });
    const auto part_of = [&](int32_t r) {
      const int64_t first = std::ssize(data) * r / size();
      return Range{first, std::ssize(data) * (r + 1) / size() - first};
    };
    const std::span<float> sums = data.subspan(part_of(rank_).begin, part_of(rank_).count);
    add_parts(data, sums, part_of);

    begin("all_reduce", tag);
    const auto bytes = static_cast<int64_t>(sums.size_bytes());
    std::byte* out = exchange_->outgoing.resize(bytes);
    copy_bytes(out, bytes_of(sums), bytes);
    std::byte* in = exchange_->incoming.resize(static_cast<int64_t>(data.size_bytes()));
    for (int32_t r = 0; r < size(); ++r) {
      receive(r, in + part_of(r).begin * kFloat, part_of(r).count * kFloat);
      send(r, out, bytes);
    }
    run();
    for (int32_t r = 0; r < size(); ++r) {
      const Range part = part_of(r);
      if (r != rank_)
        std::memcpy(data.data() + part.begin, in + part.begin * kFloat,
                    static_cast<size_t>(part.count * kFloat));
    }
  }

  [[noreturn]] void disagree(int64_t expected, int32_t from, int64_t sent) {
    const std::string reason = sizes_disagree(ranks_[rank_], expected, ranks_[from], sent);
    transport_->abort(reason);
    throw Error(ErrorCode::kRankLost, fmt::format("rank {} left {}: {}", transport_->rank(), what_, reason));
  }

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
  std::string lost() override { return transport_->dead(); }
  int64_t staging_bytes() const override { return transport_->staging_bytes(); }
  void abort(std::string_view reason) noexcept override { transport_->abort(reason); }
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
