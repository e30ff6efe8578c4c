#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/cost.h"

namespace cann_sim {

/// What a stream was given, or a host thread did, and when it ran by the model of time.
struct Record {
  const char* kind;  // "launch", "collective", "copy h2d", ..., "wait"
  std::string name;
  int device = 0;
  int row = 0;  // a stream's number on its device; of host threads kHostRow and on
  Cost cost = {};
  double begin = 0, end = 0;  // seconds
  bool ran = false;

  static constexpr int kHostRow = 10000;
};

/// All records since recording began. Thread-safe.
class Timeline {
 public:
  void record(bool on);
  bool recording() const { return on_; }
  /// In the order of calls; null while nothing is recorded.
  std::shared_ptr<Record> add(Record record);
  void ran(Record& record, double begin, double end);

  /// A line for each record of a device: row, kind, name, bytes.
  std::string journal(int device) const;
  /// Chrome's trace format: processes are devices, threads are streams. Throws Fault where the file can't be
  /// written.
  void write(const std::string& path, const Card& card) const;

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> on_ = false;
  std::vector<std::shared_ptr<Record>> records_;
};

}  // namespace cann_sim
