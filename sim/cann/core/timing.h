#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/timeline.h"

namespace cann_sim {

/// Where tasks of several ranks begin and end together.
struct MeetingTime {
  double begin = 0, seconds = 0;
};

/// One task as the model of time sees it. All times are seconds of the model.
struct Timing {
  const char* kind = nullptr;  // of its record; null: an event, which takes no time
  Cost cost = {};
  std::shared_ptr<MeetingTime> meeting = {};  // null: it goes alone
  std::shared_ptr<const double> after = {};   // an event's time that it waits for
  std::shared_ptr<double> stamp = {};         // becomes its end
  double enqueued = 0;                        // by the host
  bool arrived = false;
  std::shared_ptr<Record> record = {};
};

/// When tasks begin and end: behind what is before them on their stream, the call that enqueued them, events
/// and the other ranks of a collective. Streams of one card do not slow each other down, calls take the host
/// no time. The caller keeps calls of one stream apart.
class TimeModel {
 public:
  explicit TimeModel(const Card& card) : card_(card) {}
  const Card& card() const { return card_; }
  Timeline& timeline() { return timeline_; }

  void enqueue(Timing& task, const std::string& name, int device, int row);
  /// Its stream, which stands at `now`, has reached a task; `stall`: it goes on so much later.
  void reach(Timing& task, double now, std::chrono::milliseconds stall);
  /// It ran; the stream's new time.
  double run(Timing& task, double now, std::chrono::milliseconds stall);

  /// This host thread does something itself.
  void on_host(const char* kind, const std::string& name, int device, const Cost& cost);
  /// This host thread has waited for what ended at `time`.
  void waited(const std::string& name, int device, double time);
  /// It has seen that something ended then.
  void saw(double time);

 private:
  void record_host(const char* kind, const std::string& name, int device, const Cost& cost, double end);

  const Card& card_;
  Timeline timeline_;
};

}  // namespace cann_sim
