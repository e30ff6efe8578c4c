#include "core/conductor.h"

#include <algorithm>

#include "abi/acl.h"

namespace cann_sim {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostQueued = 4096;  // then work runs although nobody waits
constexpr std::chrono::milliseconds kPoll(20), kPollOutside(1);

}  // namespace

void Conductor::seed(uint64_t seed) {
  const std::lock_guard lock(mutex_);
  random_.seed(seed);
}

Stream* Conductor::open(int device, bool of_device) {
  const std::lock_guard lock(mutex_);
  Stream& stream = *streams_.emplace_back(std::make_shared<Stream>());
  stream.device = device;
  stream.of_device = of_device;
  stream.number = opened_[device]++;
  stream.thread = std::thread([this, &stream] { serve(stream); });
  return &stream;
}

template <class Done>
bool Conductor::wait(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit, Done done) {
  const auto deadline = Clock::now() + limit;
  ++waiting_;
  bool finished = done();
  while (!finished && Clock::now() < deadline) {
    pick();  // time passes for what has a time limit
    moved_.wait_for(lock, outside_ ? kPollOutside : kPoll);
    finished = done();
  }
  --waiting_;
  return finished;
}

void Conductor::close(Stream* stream) {
  std::shared_ptr<Stream> closed;
  {
    std::unique_lock lock(mutex_);
    while (!wait(lock, std::chrono::hours(1), [&] { return stream->tasks.empty(); })) {
    }
    stream->closing = true;
    const auto found =
        std::find_if(streams_.begin(), streams_.end(), [&](const auto& s) { return s.get() == stream; });
    closed = std::move(*found);
    streams_.erase(found);
  }
  moved_.notify_all();
  closed->thread.join();
}

bool Conductor::known(const Stream* stream) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(streams_.begin(), streams_.end(), [&](const auto& s) { return s.get() == stream; });
}

size_t Conductor::open_streams(std::optional<int> device) const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(streams_.begin(), streams_.end(), [&](const auto& s) {
    return !s->of_device && s->device == device.value_or(s->device);
  }));
}

void Conductor::enqueue(Stream& stream, Task task) {
  const std::lock_guard lock(mutex_);
  time_.enqueue(task.timing, task.name, stream.device, stream.number);
  stream.tasks.push_back(std::move(task));
  ++queued_;
  pick();
}

void Conductor::record(Event& event, Stream& stream) {
  uint64_t mine = 0;
  const auto stamp = std::make_shared<double>(0);
  {
    const std::lock_guard lock(mutex_);
    mine = ++event.recorded;
    event.stream = stream.shared_from_this();
    event.stamp = stamp;
  }
  enqueue(stream, {.name = "event record",
                   .run = [] {},
                   .timing = {.stamp = stamp},
                   .done =
                       [kept = event.shared_from_this(), mine] {
                         kept->done = std::max(kept->done, mine);
                         kept->time = Clock::now();
                       }});
}

void Conductor::wait_event(Stream& stream, Event& event) {
  const std::shared_ptr<Event> kept = event.shared_from_this();
  uint64_t wanted = 0;
  std::shared_ptr<const double> stamp;
  {
    const std::lock_guard lock(mutex_);
    wanted = event.recorded;
    stamp = event.stamp;
  }
  const auto lost = [kept, wanted] { return kept->done < wanted && kept->stream->fault; };
  enqueue(stream, {.name = "event wait",
                   .run =
                       [this, kept, lost] {
                         const std::lock_guard lock(mutex_);
                         if (lost()) throw Fault(*kept->stream->fault);
                       },
                   .ready = [kept, wanted, lost] { return kept->done >= wanted || lost(); },
                   .timing = {.after = stamp}});
}

// A stream's thread: its first task, whenever it is this stream's turn.
void Conductor::serve(Stream& stream) {
  std::unique_lock lock(mutex_);
  for (;;) {
    moved_.wait(lock, [&] { return stream.closing || turn_ == &stream; });
    if (stream.closing) return;
    const bool dead = stream.fault.has_value();
    Task& task = stream.tasks.front();
    lock.unlock();
    std::optional<Fault> fault;
    if (!dead) {
      try {
        task.run();
      } catch (const Fault& f) {
        fault = f;
      }
    }
    lock.lock();
    if (fault) {
      stream.fault = fault;
      ++faults_;
    } else if (!dead) {
      stream.now = time_.run(task.timing, stream.now, task.stall);
      if (task.done) task.done();
    }
    stream.tasks.pop_front();
    --queued_;
    turn_ = nullptr;
    pick();
    moved_.notify_all();
  }
}

bool Conductor::able(Stream& stream) {
  if (stream.fault) return true;
  Task& task = stream.tasks.front();
  if (task.stall.count() > 0) {
    if (!task.reached) task.reached = Clock::now();
    if (Clock::now() - *task.reached < task.stall) return false;
  }
  time_.reach(task.timing, stream.now, task.stall);
  return !task.ready || task.ready();
}

// Gives the turn to one of the streams that could go on. Under the lock.
void Conductor::pick() {
  if (turn_ || (waiting_ == 0 && queued_ < kMostQueued)) return;
  std::vector<Stream*> could;
  outside_ = false;
  for (const auto& stream : streams_) {
    if (stream->tasks.empty()) continue;
    if (able(*stream))
      could.push_back(stream.get());
    else
      outside_ |= stream->tasks.front().outside;
  }
  if (could.empty()) return;
  turn_ = could[random_() % could.size()];
  moved_.notify_all();
}

namespace {

[[noreturn]] void time_out(const char* what, std::chrono::milliseconds limit, const std::string& stuck) {
  fail(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, "{}: not done after {} ms; the stream stands at {}", what,
       limit.count(), stuck);
}

}  // namespace

void Conductor::synchronize(Stream& stream, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  if (!wait(lock, limit, [&] { return stream.tasks.empty(); }))
    time_out("synchronize stream", limit, stream.tasks.front().name);
  time_.waited("stream", stream.device, stream.now);
  if (stream.fault) throw Fault(*stream.fault);
}

void Conductor::synchronize_device(int device, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const auto busy = [&]() -> Stream* {
    for (const auto& s : streams_)
      if (s->device == device && !s->tasks.empty()) return s.get();
    return nullptr;
  };
  if (!wait(lock, limit, [&] { return !busy(); }))
    time_out("synchronize device", limit, busy()->tasks.front().name);
  double now = 0;
  for (const auto& s : streams_)
    if (s->device == device) now = std::max(now, s->now);
  time_.waited("device", device, now);
  for (const auto& s : streams_)
    if (s->device == device && s->fault) throw Fault(*s->fault);
}

void Conductor::synchronize_event(Event& event, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const uint64_t wanted = event.recorded;
  const auto dead = [&] { return event.stream && event.stream->fault; };
  if (!wait(lock, limit, [&] { return event.done >= wanted || dead(); }))
    time_out("synchronize event", limit, "other work");
  if (event.done < wanted) throw Fault(*event.stream->fault);
  time_.waited("event", event.device, event.stamp ? *event.stamp : 0);
}

void Conductor::step(std::unique_lock<std::mutex>& lock) {
  const size_t before = queued_;
  wait(lock, kPoll, [&] { return queued_ < before || queued_ == 0; });
}

bool Conductor::query(Stream& stream) {
  std::unique_lock lock(mutex_);
  if (!stream.tasks.empty()) step(lock);
  if (stream.fault) throw Fault(*stream.fault);
  if (stream.tasks.empty()) time_.saw(stream.now);
  return stream.tasks.empty();
}

bool Conductor::query(Event& event) {
  std::unique_lock lock(mutex_);
  if (event.done < event.recorded) step(lock);
  if (event.done < event.recorded && event.stream->fault) throw Fault(*event.stream->fault);
  if (event.done >= event.recorded && event.stamp) time_.saw(*event.stamp);
  return event.done >= event.recorded;
}

}  // namespace cann_sim
