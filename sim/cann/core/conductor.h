#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/fault.h"
#include "core/timing.h"

namespace cann_sim {

/// Work on a stream. `ready` is asked, under the conductor's lock, once everything before it on its stream is
/// done; null: at once. `outside`: it waits for other processes, which can't say when they have moved.
struct Task {
  std::string name;
  std::function<void()> run;
  std::function<bool()> ready = {};
  bool outside = false;
  std::chrono::milliseconds stall{0};  // how long it stands still before that
  Timing timing = {};
  std::function<void()> done = {};  // once it ran, under the conductor's lock
  std::optional<std::chrono::steady_clock::time_point> reached = {};
};

/// A queue with a thread of its own. After a fault nothing on it runs any more.
struct Stream : std::enable_shared_from_this<Stream> {
  int device = 0;
  bool of_device = false;  // a device's default stream, which nobody destroys
  int number = 0;          // among those of its device that there were
  double now = 0;          // by the model of time
  std::deque<Task> tasks;  // the first may be running
  bool closing = false;
  std::optional<Fault> fault;
  std::thread thread;
};

/// An event: `recorded` counts records that were asked for, `done` those whose work is done.
struct Event : std::enable_shared_from_this<Event> {
  int device = 0;
  bool timed = true;  // its time may be asked for
  uint64_t recorded = 0, done = 0;
  std::optional<std::chrono::steady_clock::time_point> time;
  std::shared_ptr<Stream> stream;       // of the last record
  std::shared_ptr<const double> stamp;  // when that is, by the model of time
};

/// Runs the tasks of all streams, one at a time. Work runs late: nothing moves until a host thread waits (or
/// very much is queued); then the next stream among those that could go on is drawn by a seeded generator.
/// What no event or synchronisation orders comes in any order.
class Conductor {
 public:
  Conductor(uint64_t seed, const Card& card) : time_(card), random_(seed) {}

  void seed(uint64_t seed);
  Stream* open(int device, bool of_device);
  /// Waits for the stream's work first.
  void close(Stream* stream);
  bool known(const Stream* stream) const;

  void enqueue(Stream& stream, Task task);
  void record(Event& event, Stream& stream);
  void wait_event(Stream& stream, Event& event);

  /// A host thread waits. Throws Fault: the stream's own (again and again), or a time-out.
  void synchronize(Stream& stream, std::chrono::milliseconds limit);
  void synchronize_device(int device, std::chrono::milliseconds limit);
  void synchronize_event(Event& event, std::chrono::milliseconds limit);
  /// Lets one task run, so that a loop of queries ends; then whether all is done.
  bool query(Stream& stream);
  bool query(Event& event);

  /// Tasks that found one while they ran.
  uint64_t faults() const { return faults_; }
  void reset_faults() { faults_ = 0; }

  TimeModel& time() { return time_; }
  /// Guards events and what `ready` looks at.
  std::mutex& mutex() { return mutex_; }
  /// Those that somebody must close; of one device, or of all.
  size_t open_streams(std::optional<int> device = {}) const;

 private:
  void serve(Stream& stream);
  void pick();
  bool able(Stream& stream);
  template <class Done>
  bool wait(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit, Done done);
  void step(std::unique_lock<std::mutex>& lock);

  TimeModel time_;
  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::map<int, int> opened_;  // streams of each device, closed ones among them
  std::mt19937_64 random_;
  Stream* turn_ = nullptr;  // the one stream that may run its first task
  int waiting_ = 0;         // host threads
  bool outside_ = false;    // some stream stands at a task that waits for other processes
  size_t queued_ = 0;
  std::atomic<uint64_t> faults_ = 0;
};

}  // namespace cann_sim
