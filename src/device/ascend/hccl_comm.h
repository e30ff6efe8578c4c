#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/ascend/ascend_stream.h"
#include "device/ascend/hccl_api.h"

namespace longspan::ascend {

/// A rank's place in a group of cards: collectives on device memory, enqueued, so that errors of ranks that
/// never come show where the rank waits for its stream (HCCL_EXEC_TIMEOUT). What is started travels on a
/// stream of its own until wait() puts the rank's behind it. Sums are taken in an order of HCCL's own, the
/// same bits on every rank that wants them. Scratch comes from the rank's arena: between start and wait,
/// until the enclosing scope ends.
class HcclCommunicator final : public Communicator {
 public:
  /// Returns when every rank of the group has come. `ctx`: the rank's arena and stream, which outlive what is
  /// enqueued here.
  HcclCommunicator(Card& card, const HcclRoot& root, int32_t rank, int32_t size, const OpContext& ctx);
  ~HcclCommunicator() override;
  HcclCommunicator(const HcclCommunicator&) = delete;
  HcclCommunicator& operator=(const HcclCommunicator&) = delete;

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  bool pads_gathers() const override;

  void barrier(std::string_view tag) override;
  void start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                          std::span<const int64_t> recv_bytes, std::string_view tag) override;
  void start_shift(std::span<const std::byte> send, std::span<std::byte> recv, std::string_view tag) override;
  void wait() override;
  void all_reduce(std::span<float> data, std::string_view tag) override;
  void reduce_scatter_v(std::span<const float> send, std::span<float> recv, std::span<const Range> ranges,
                        std::string_view tag) override;
  void start_all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                          std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                          std::string_view tag) override;
  void gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) override;
  void broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) override;
  /// Nobody is released who waits for the card; every later call throws.
  void abort(std::string_view reason) noexcept override;

 private:
  const HcclApi& api() const { return card_.cann().hccl; }
  void begin(const char* collective, std::string_view tag);
  void check(HcclStatus status, const char* call) const;
  void gather(std::span<const std::byte> send, std::span<std::byte> recv,
              std::span<const int64_t> recv_bytes);
  void gather_padded(std::span<const std::byte> send, std::span<std::byte> recv,
                     std::span<const int64_t> recv_bytes, int64_t most);
  void exchange(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                std::span<std::byte> recv, std::span<const int64_t> recv_bytes, AclStream stream);
  AclStream start();

  Card& card_;
  const int32_t rank_, size_;
  Arena& arena_;
  AscendStream& stream_;  // the rank's
  AscendStream side_;     // for what is started
  HcclHandle comm_ = nullptr;
  Stream::Mark done_ = nullptr;  // of what was started
  bool started_ = false;
  std::string what_;  // the call under way
  std::mutex mutex_;
  std::string dead_;  // why, once the group is
};

}  // namespace longspan::ascend
