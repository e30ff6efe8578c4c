#include "device/ascend/hccl_comm.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <utility>

#include "comm/collective_rules.h"
#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

// As bytes lie: HCCL has no opinion of what travels without being added up.
struct Counts {
  std::vector<uint64_t> counts, displs;
  explicit Counts(std::span<const int64_t> bytes) {
    uint64_t at = 0;
    for (const int64_t count : bytes) {
      displs.push_back(at);
      counts.push_back(static_cast<uint64_t>(count));
      at += counts.back();
    }
  }
};

void* raw(std::span<const std::byte> bytes) {
  return const_cast<std::byte*>(bytes.data());
}

bool overlap(std::span<const Communicator::Range> ranges) {
  for (size_t i = 0; i < ranges.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (std::max(ranges[i].begin, ranges[j].begin) <
          std::min(ranges[i].begin + ranges[i].count, ranges[j].begin + ranges[j].count))
        return true;
  return false;
}

void copy_bytes(const Launcher& on, const void* from, void* to, int64_t bytes) {
  if (bytes == 0) return;
  call(on, on.card.cann().ops.inplace_copy, make_tensor(on.card, to, kAclInt8, {bytes}).get(),
       make_tensor(on.card, from, kAclInt8, {bytes}).get());
}

void zero_bytes(const Launcher& on, void* data, int64_t bytes) {
  if (bytes == 0) return;
  const auto size = static_cast<size_t>(bytes);
  on.card.check(on.card.acl().aclrtMemsetAsync(data, size, 0, size, on.handle), "aclrtMemsetAsync");
}

}  // namespace

HcclCommunicator::HcclCommunicator(Card& card, const HcclRoot& root, int32_t rank, int32_t size,
                                   const OpContext& ctx)
    : card_(card),
      rank_(rank),
      size_(size),
      arena_(ctx.arena),
      stream_(static_cast<AscendStream&>(*ctx.stream)),
      side_(card) {
  card_.cann().require_hccl();
  card_.enter();
  what_ = "the start of a group";
  check(api().HcclCommInitRootInfo(static_cast<uint32_t>(size), &root, static_cast<uint32_t>(rank), &comm_),
        "HcclCommInitRootInfo");
}

HcclCommunicator::~HcclCommunicator() {
  side_.drain();
  if (card_.acl().aclrtSetDevice(card_.device()) == 0) api().HcclCommDestroy(comm_);
}

bool HcclCommunicator::pads_gathers() const {
  return api().HcclAllGatherV == nullptr;
}

void HcclCommunicator::begin(const char* collective, std::string_view tag) {
  longspan::check(!started_, "nothing else between start and wait");
  what_ = fmt::format("{} \"{}\"", collective, tag);
  const std::lock_guard lock(mutex_);
  if (!dead_.empty())
    throw Error(ErrorCode::kRankLost, fmt::format("rank {} left {}: {}", rank_, what_, dead_));
}

void HcclCommunicator::check(HcclStatus status, const char* call) const {
  if (status == 0) [[likely]]
    return;
  const std::string text = card_.recent_error();
  throw Error(ErrorCode::kRankLost, fmt::format("rank {} left {}: {} failed with {} ({}): {}", rank_, what_,
                                                call, status, api().HcclGetErrorString(status), text));
}

// The side stream, behind what the rank's has been given so far.
AclStream HcclCommunicator::start() {
  side_.after(stream_.mark());
  started_ = true;
  return side_.enter();
}

void HcclCommunicator::wait() {
  longspan::check(started_, "wait: nothing was started");
  started_ = false;
  stream_.after(done_);
}

void HcclCommunicator::barrier(std::string_view tag) {
  begin("barrier", tag);
  check(api().HcclBarrier(comm_, stream_.enter()), "HcclBarrier");
}

void HcclCommunicator::start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                                          std::span<const int64_t> recv_bytes, std::string_view tag) {
  check_gather(size_, recv_bytes, recv);
  begin("all_gather_v", tag);
  start();
  if (!recv.empty()) gather(send, recv, recv_bytes);
  done_ = side_.mark();
}

void HcclCommunicator::gather(std::span<const std::byte> send, std::span<std::byte> recv,
                              std::span<const int64_t> recv_bytes) {
  const int64_t most = *std::ranges::max_element(recv_bytes);
  if (std::ranges::count(recv_bytes, most) == size_)
    return check(api().HcclAllGather(raw(send), recv.data(), static_cast<uint64_t>(most), kHcclInt8, comm_,
                                     side_.enter()),
                 "HcclAllGather");
  if (pads_gathers()) return gather_padded(send, recv, recv_bytes, most);
  const Counts received(recv_bytes);
  void* const from = send.empty() ? recv.data() : raw(send);  // an address, even where nothing is sent
  check(api().HcclAllGatherV(from, send.size(), recv.data(), received.counts.data(), received.displs.data(),
                             kHcclInt8, comm_, side_.enter()),
        "HcclAllGatherV");
}

// Everybody sends as much as the one with most, and what is too much is left behind.
void HcclCommunicator::gather_padded(std::span<const std::byte> send, std::span<std::byte> recv,
                                     std::span<const int64_t> recv_bytes, int64_t most) {
  OpContext ctx{.arena = arena_, .stream = &side_};
  const Launcher on(card_, ctx);
  auto* padded = static_cast<std::byte*>(arena_.allocate(most));
  auto* all = static_cast<std::byte*>(arena_.allocate(most * size_));
  copy_bytes(on, send.data(), padded, std::ssize(send));
  zero_bytes(on, padded + send.size(), most - std::ssize(send));
  check(api().HcclAllGather(padded, all, static_cast<uint64_t>(most), kHcclInt8, comm_, on.handle),
        "HcclAllGather");
  std::byte* to = recv.data();
  for (int32_t r = 0; r < size_; to += recv_bytes[r++]) copy_bytes(on, all + r * most, to, recv_bytes[r]);
}

void HcclCommunicator::exchange(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                                std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                                AclStream stream) {
  const Counts sent(send_bytes), received(recv_bytes);
  check(api().HcclAlltoAllV(send.data(), sent.counts.data(), sent.displs.data(), kHcclInt8, recv.data(),
                            received.counts.data(), received.displs.data(), kHcclInt8, comm_, stream),
        "HcclAlltoAllV");
}

void HcclCommunicator::start_shift(std::span<const std::byte> send, std::span<std::byte> recv,
                                   std::string_view tag) {
  begin("shift", tag);
  std::vector<int64_t> send_bytes(size_), recv_bytes(size_);
  send_bytes[(rank_ + 1) % size_] = std::ssize(send);
  recv_bytes[(rank_ + size_ - 1) % size_] = std::ssize(recv);
  exchange(send, send_bytes, recv, recv_bytes, start());
  done_ = side_.mark();
}

void HcclCommunicator::start_all_to_all_v(std::span<const std::byte> send,
                                          std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                                          std::span<const int64_t> recv_bytes, std::string_view tag) {
  check_all_to_all(size_, send, send_bytes, recv, recv_bytes);
  begin("all_to_all_v", tag);
  exchange(send, send_bytes, recv, recv_bytes, start());
  done_ = side_.mark();
}

void HcclCommunicator::gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                                std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) {
  check_gather_at(root, rank_, size_, recv_bytes, recv);
  begin("gather_v", tag);
  std::vector<int64_t> to_root(size_), from_all(recv_bytes.begin(), recv_bytes.end());
  to_root[root] = std::ssize(send);
  from_all.resize(size_);
  exchange(send, to_root, recv, from_all, stream_.enter());
}

void HcclCommunicator::all_reduce(std::span<float> data, std::string_view tag) {
  begin("all_reduce", tag);
  if (data.empty()) return;  // for every rank
  check(api().HcclAllReduce(data.data(), data.data(), data.size(), kHcclFloat, kHcclSum, comm_,
                            stream_.enter()),
        "HcclAllReduce");
}

// Each part of HCCL's scatter is added up in an order of its own: ranks that want the same sums get them from
// one sum of all instead, which gives everybody the same bits. Parts are equal and follow each other; other
// ranges are laid out so first, short ones with zeros.
void HcclCommunicator::reduce_scatter_v(std::span<const float> send, std::span<float> recv,
                                        std::span<const Range> ranges, std::string_view tag) {
  check_reduce_scatter(rank_, size_, send, recv, ranges);
  begin("reduce_scatter_v", tag);
  int64_t most = 0, next = 0;
  for (const Range& range : ranges) most = std::max(most, range.count);
  if (most == 0) return;
  const bool even = std::ranges::all_of(ranges, [&](const Range& range) {
    return range.count == most && range.begin == std::exchange(next, next + most);
  });
  const Arena::Scope scope(arena_);
  OpContext ctx{.arena = arena_, .stream = &stream_};
  const Launcher on(card_, ctx);
  const auto scatter = [&](const float* from, float* to) {
    check(api().HcclReduceScatter(const_cast<float*>(from), to, static_cast<uint64_t>(most), kHcclFloat,
                                  kHcclSum, comm_, on.handle),
          "HcclReduceScatter");
  };
  if (even) return scatter(send.data(), recv.data());
  constexpr int64_t kFloat = sizeof(float);
  if (overlap(ranges)) {
    const Matrix sums = on.scratch(1, std::ssize(send), DType::kF32);
    check(api().HcclAllReduce(const_cast<float*>(send.data()), sums.data, send.size(), kHcclFloat, kHcclSum,
                              comm_, on.handle),
          "HcclAllReduce");
    return copy_bytes(on, sums.f32(0) + ranges[rank_].begin, recv.data(), std::ssize(recv) * kFloat);
  }
  const Matrix parts = on.scratch(size_, most, DType::kF32);
  for (int32_t r = 0; r < size_; ++r) {
    copy_bytes(on, send.data() + ranges[r].begin, parts.f32(r), ranges[r].count * kFloat);
    zero_bytes(on, parts.f32(r) + ranges[r].count, (most - ranges[r].count) * kFloat);
  }
  const bool direct = std::ssize(recv) == most;
  const Matrix mine = direct ? Matrix{} : on.scratch(1, most, DType::kF32);
  scatter(parts.f32(0), direct ? recv.data() : mine.f32(0));
  if (!direct) copy_bytes(on, mine.data, recv.data(), std::ssize(recv) * kFloat);
}

void HcclCommunicator::broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) {
  longspan::check(root >= 0 && root < size_, "broadcast: the root is a rank of the group");
  begin("broadcast", tag);
  if (data.empty()) return;  // for every rank
  check(api().HcclBroadcast(data.data(), data.size(), kHcclInt8, static_cast<uint32_t>(root), comm_,
                            stream_.enter()),
        "HcclBroadcast");
}

void HcclCommunicator::abort(std::string_view reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (dead_.empty()) dead_ = reason.empty() ? "aborted" : reason;
}

}  // namespace longspan::ascend
