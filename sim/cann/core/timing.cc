#include "core/timing.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace cann_sim {
namespace {

thread_local double t_now = 0;

int host_row() {
  static std::atomic<int> next = Record::kHostRow;
  thread_local const int row = next++;
  return row;
}

double begin_of(const Timing& task, double now, std::chrono::milliseconds stall) {
  return std::max({now, task.enqueued, task.after ? *task.after : 0}) +
         std::chrono::duration<double>(stall).count();
}

}  // namespace

void TimeModel::enqueue(Timing& task, const std::string& name, int device, int row) {
  task.enqueued = t_now;
  if (task.kind)
    task.record =
        timeline_.add({.kind = task.kind, .name = name, .device = device, .row = row, .cost = task.cost});
}

void TimeModel::reach(Timing& task, double now, std::chrono::milliseconds stall) {
  if (!task.meeting || task.arrived) return;
  task.arrived = true;
  task.meeting->begin = std::max(task.meeting->begin, begin_of(task, now, stall));
  task.meeting->seconds = std::max(task.meeting->seconds, card_.seconds(task.cost));
}

double TimeModel::run(Timing& task, double now, std::chrono::milliseconds stall) {
  const double begin = task.meeting ? task.meeting->begin : begin_of(task, now, stall);
  const double end = begin + (task.meeting ? task.meeting->seconds : card_.seconds(task.cost));
  if (task.record) timeline_.ran(*task.record, begin, end);
  if (task.stamp) *task.stamp = end;
  return end;
}

void TimeModel::record_host(const char* kind, const std::string& name, int device, const Cost& cost,
                            double end) {
  const double begin = std::exchange(t_now, std::max(t_now, end));
  if (const auto record =
          timeline_.add({.kind = kind, .name = name, .device = device, .row = host_row(), .cost = cost}))
    timeline_.ran(*record, begin, t_now);
}

void TimeModel::on_host(const char* kind, const std::string& name, int device, const Cost& cost) {
  record_host(kind, name, device, cost, t_now + card_.seconds(cost));
}

void TimeModel::waited(const std::string& name, int device, double time) {
  record_host("wait", name, device, {}, time);
}

void TimeModel::saw(double time) {
  t_now = std::max(t_now, time);
}

}  // namespace cann_sim
