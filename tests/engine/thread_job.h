#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "comm/job.h"

namespace longspan::testing_support {

/// A job whose processes are threads of this one: each has a ThreadJob, all with the same groups.
class ThreadJob final : public Job {
 public:
  struct Groups {
    using Key = std::tuple<std::vector<int32_t>, int32_t, int32_t>;  // ranks, channel, how many such before
    std::mutex mutex;
    std::map<Key, std::vector<std::shared_ptr<Communicator>>> made;
    std::string dead;  // why, once the job is
  };

  ThreadJob(std::shared_ptr<Groups> groups, int32_t rank, int32_t size)
      : groups_(std::move(groups)), rank_(rank), size_(size) {}
  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  std::unique_ptr<Communicator> make_group(std::vector<int32_t> ranks, int32_t channel,
                                           std::optional<std::chrono::milliseconds> limit) override;
  int64_t staging_bytes() const override { return 0; }
  void require_alive() override {}
  std::string lost() override {
    const std::lock_guard lock(groups_->mutex);
    return groups_->dead;
  }
  void abort(std::string_view reason) noexcept override;
  void leave() override {}

 private:
  const std::shared_ptr<Groups> groups_;
  const int32_t rank_, size_;
  std::map<std::pair<std::vector<int32_t>, int32_t>, int32_t> made_here_;
};

}  // namespace longspan::testing_support
