#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>

namespace longspan::server {

class Admission;

/// Places that were given; those still held go back at its end.
class AdmissionTicket {
 public:
  AdmissionTicket(AdmissionTicket&& other) noexcept
      : admission_(other.admission_), count_(std::exchange(other.count_, 0)) {}
  AdmissionTicket& operator=(AdmissionTicket&&) = delete;
  ~AdmissionTicket() { give_back(count_); }

  void give_back(int64_t count);

 private:
  friend class Admission;
  AdmissionTicket(Admission& admission, int64_t count) : admission_(admission), count_(count) {}

  Admission& admission_;
  int64_t count_;
};

/// Bounds how many requests the engine has at a time, running and waiting. From any thread.
class Admission {
 public:
  explicit Admission(int64_t limit) : limit_(limit) {}

  /// Nothing if there are not so many places now.
  std::optional<AdmissionTicket> enter(int64_t count) {
    int64_t taken = taken_;
    while (taken + count <= limit_) {
      if (taken_.compare_exchange_weak(taken, taken + count)) return AdmissionTicket(*this, count);
    }
    return std::nullopt;
  }
  int64_t taken() const { return taken_; }
  int64_t limit() const { return limit_; }

 private:
  friend class AdmissionTicket;
  const int64_t limit_;
  std::atomic<int64_t> taken_{0};
};

inline void AdmissionTicket::give_back(int64_t count) {
  count_ -= count;
  admission_.taken_ -= count;
}

}  // namespace longspan::server
