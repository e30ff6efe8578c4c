#include "engine/thread_job.h"

#include <algorithm>

namespace longspan::testing_support {
namespace {

// A place in a group that others may end too.
class SharedPlace final : public Communicator {
 public:
  explicit SharedPlace(std::shared_ptr<Communicator> place) : place_(std::move(place)) {}
  int32_t rank() const override { return place_->rank(); }
  int32_t size() const override { return place_->size(); }
  void barrier(std::string_view tag) override { place_->barrier(tag); }
  void start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                          std::span<const int64_t> recv_bytes, std::string_view tag) override {
    place_->start_all_gather_v(send, recv, recv_bytes, tag);
  }
  void start_shift(std::span<const std::byte> send, std::span<std::byte> recv,
                   std::string_view tag) override {
    place_->start_shift(send, recv, tag);
  }
  void wait() override { place_->wait(); }
  void all_reduce(std::span<float> data, std::string_view tag) override { place_->all_reduce(data, tag); }
  void reduce_scatter_v(std::span<const float> send, std::span<float> recv, std::span<const Range> ranges,
                        std::string_view tag) override {
    place_->reduce_scatter_v(send, recv, ranges, tag);
  }
  void start_all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes,
                          std::span<std::byte> recv, std::span<const int64_t> recv_bytes,
                          std::string_view tag) override {
    place_->start_all_to_all_v(send, send_bytes, recv, recv_bytes, tag);
  }
  void gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                std::span<const int64_t> recv_bytes, int32_t root, std::string_view tag) override {
    place_->gather_v(send, recv, recv_bytes, root, tag);
  }
  void broadcast(std::span<std::byte> data, int32_t root, std::string_view tag) override {
    place_->broadcast(data, root, tag);
  }
  void abort(std::string_view reason) noexcept override { place_->abort(reason); }

 private:
  const std::shared_ptr<Communicator> place_;
};

}  // namespace

std::unique_ptr<Communicator> ThreadJob::make_group(std::vector<int32_t> ranks, int32_t channel,
                                                    std::optional<std::chrono::milliseconds> limit) {
  const auto at = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
  const int32_t turn = made_here_[{ranks, channel}]++;
  const std::lock_guard lock(groups_->mutex);
  auto& places = groups_->made[{ranks, channel, turn}];
  if (places.empty()) {
    for (auto& place :
         make_threads_group(static_cast<int32_t>(ranks.size()), limit.value_or(std::chrono::minutes(1))))
      places.push_back(std::move(place));
    if (!groups_->dead.empty()) places[0]->abort(groups_->dead);
  }
  return std::make_unique<SharedPlace>(places[static_cast<size_t>(at)]);
}

void ThreadJob::abort(std::string_view reason) noexcept {
  const std::lock_guard lock(groups_->mutex);
  if (groups_->dead.empty()) groups_->dead = reason;
  for (auto& [key, places] : groups_->made) places[0]->abort(reason);
}

}  // namespace longspan::testing_support
