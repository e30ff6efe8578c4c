#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/conductor.h"
#include "core/device_memory.h"
#include "core/fault_plan.h"

namespace cann_sim {

/// The state that the C interface forces to be one per process.
class Runtime {
 public:
  static Runtime& get();

  // Life and devices. Everything but init throws where aclInit was not called.
  void init();
  void finalize();
  int device_count() const { return devices_; }
  void set_device(int device);
  void reset_device(int device);
  /// The calling thread's; throws Fault(`code`) where it has none.
  int current_device(const char* call, int code) const;

  DeviceMemory& memory() { return memory_; }
  Conductor& conductor() { return conductor_; }

  // Handles. A null stream is the device's default one.
  Stream* create_stream();
  void destroy_stream(Stream* stream);
  Stream& stream_of(void* handle, const char* call);
  Event* create_event(bool timed);
  void destroy_event(Event* event);
  Event& event_of(void* handle, const char* call);

  void* allocate_pinned(size_t bytes);
  void free_pinned(void* data);
  /// The allocation of pinned memory that holds all of these bytes; 0: none. Never the same for two.
  uint64_t pinned_id(const void* data, size_t bytes) const;
  uint64_t pinned_bytes() const;

  FaultPlan& faults() { return faults_; }
  /// A call of this thread, which a rule may disturb: throws Fault, or sleeps.
  void disturb(const char* call);
  /// The same for a call that enqueues or writes something: a stall or garbage is left to the caller.
  Disturbance disturbed(const std::string& call);

  void count(const std::string& what, uint64_t times = 1);
  uint64_t counted(const std::string& what) const;
  void reset_counts();

  /// Objects of other parts (tensors, executors, communicators) that must not be left over.
  void born(const void* object, const char* kind);
  /// False where it was not alive.
  bool died(const void* object, const char* kind);
  bool alive(const void* object, const char* kind) const;

  std::string leaks() const;
  /// Writes the file that CANN_SIM_TRACE asked for, once.
  void write_trace();
  std::chrono::milliseconds sync_limit() const { return sync_limit_; }

 private:
  Runtime();
  void require_init(const char* call) const;

  const int devices_;
  const std::chrono::milliseconds sync_limit_;
  DeviceMemory memory_;
  Conductor conductor_;
  mutable std::mutex mutex_;
  bool initialized_ = false;
  std::string trace_;  // where the trace is still to be written
  std::map<int, Stream*> default_streams_;
  std::map<Event*, std::shared_ptr<Event>> events_;
  std::map<int, uint64_t> events_of_device_;
  struct Pinned {
    size_t bytes = 0;
    uint64_t id = 0;
  };
  std::map<uintptr_t, Pinned> pinned_;  // by start
  uint64_t next_pinned_ = 1;
  std::map<std::string, uint64_t> counts_;
  std::map<const void*, const char*> objects_;
  FaultPlan faults_;
};

/// The body of a C entry point that enqueues and writes nothing.
template <class Body>
int entry(const char* call, Body&& body) {
  return guarded([&] {
    Runtime::get().disturb(call);
    body();
  });
}

}  // namespace cann_sim
