#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace longspan::server {

class Admission;

/// Places that were given; those still held go back at its end.
class AdmissionTicket {
 public:
  AdmissionTicket(AdmissionTicket&& other) noexcept
      : admission_(other.admission_), key_(other.key_), count_(std::exchange(other.count_, 0)) {}
  AdmissionTicket& operator=(AdmissionTicket&&) = delete;
  ~AdmissionTicket() { give_back(count_); }

  void give_back(int64_t count);

 private:
  friend class Admission;
  AdmissionTicket(Admission& admission, size_t key, int64_t count)
      : admission_(admission), key_(key), count_(count) {}

  Admission& admission_;
  const size_t key_;
  int64_t count_;
};

/// Bounds how many requests the engine has at a time, running and waiting. With several API keys half of the
/// places are kept for them evenly, so that none can take all. From any thread.
class Admission {
 public:
  /// `keys`: 1 where everybody is the same one.
  Admission(int64_t limit, size_t keys)
      : limit_(limit),
        kept_(keys > 1 ? limit / (2 * static_cast<int64_t>(keys)) : 0),
        taken_(std::max<size_t>(keys, 1)) {}

  /// Nothing if there are not so many places for the key now.
  std::optional<AdmissionTicket> enter(size_t key, int64_t count) {
    const std::lock_guard lock(mutex_);
    int64_t beyond = 0;  // places taken of those that are kept for nobody
    for (size_t k = 0; k < taken_.size(); ++k)
      beyond += std::max<int64_t>(0, taken_[k] + (k == key ? count : 0) - kept_);
    if (beyond > limit_ - kept_ * static_cast<int64_t>(taken_.size())) return std::nullopt;
    taken_[key] += count;
    return AdmissionTicket(*this, key, count);
  }
  int64_t taken() const {
    const std::lock_guard lock(mutex_);
    return std::accumulate(taken_.begin(), taken_.end(), int64_t{0});
  }
  int64_t limit() const { return limit_; }
  /// The most places that one key can have.
  int64_t most_of_key() const { return limit_ - kept_ * static_cast<int64_t>(taken_.size() - 1); }

 private:
  friend class AdmissionTicket;
  const int64_t limit_, kept_;  // kept for each key
  mutable std::mutex mutex_;
  std::vector<int64_t> taken_;  // by key
};

inline void AdmissionTicket::give_back(int64_t count) {
  if (count == 0) return;  // a ticket that was moved from, perhaps under the lock
  const std::lock_guard lock(admission_.mutex_);
  count_ -= count;
  admission_.taken_[key_] -= count;
}

}  // namespace longspan::server
