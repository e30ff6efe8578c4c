#include "core/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "abi/acl.h"
#include "core/entry_points.h"

namespace cann_sim {
namespace {

constexpr uint64_t kMostStreams = 1984, kMostEvents = 65536;  // of an A2 or A3 card

thread_local int t_device = -1;

std::string environment(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

uint64_t setting(const char* name, uint64_t otherwise) {
  const std::string text = environment(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (*end != '\0') fail(ACL_ERROR_INVALID_PARAM, "{}='{}' is not a whole number", name, text);
  return value;
}

}  // namespace

Runtime& Runtime::get() {
  // Never destroyed: stream threads may outlive static objects.
  static Runtime* const runtime = new Runtime;
  return *runtime;
}

Runtime::Runtime()
    : devices_(static_cast<int>(setting("CANN_SIM_DEVICES", 8))),
      sync_limit_(setting("CANN_SIM_SYNC_LIMIT_MS", 60000)),
      memory_(devices_, setting("CANN_SIM_HBM_BYTES", uint64_t{64} << 30)),
      conductor_(setting("CANN_SIM_SEED", 1), card_of(environment("CANN_SIM_CARD"))),
      faults_(is_entry_point) {}

void Runtime::require_init(const char* call) const {
  if (!initialized_) fail(ACL_ERROR_UNINITIALIZE, "{}: aclInit was not called", call);
}

void Runtime::init() {
  {
    const std::lock_guard lock(mutex_);
    const std::string path = environment("CANN_SIM_FAULTS");
    if (!initialized_ && !path.empty()) faults_.read(path);
  }
  disturb("aclInit");
  const std::lock_guard lock(mutex_);
  if (initialized_) fail(ACL_ERROR_REPEAT_INITIALIZE, "aclInit was called before");
  initialized_ = true;
  trace_ = environment("CANN_SIM_TRACE");
  if (const size_t at = trace_.find("%p"); at != std::string::npos)
    trace_.replace(at, 2, std::to_string(getpid()));
  if (trace_.empty()) return;
  conductor_.time().timeline().record(true);
  // Many programs leave aclFinalize out, so that they don't end CANN for others.
  static const int at_exit = std::atexit([] {
    if (guarded([] { Runtime::get().write_trace(); }) != 0)
      std::fprintf(stderr, "CANN_SIM_TRACE: %s\n", take_error());
  });
  static_cast<void>(at_exit);
}

void Runtime::write_trace() {
  const std::string path = std::exchange(trace_, {});
  if (!path.empty()) conductor_.time().timeline().write(path, conductor_.time().card());
}

void Runtime::finalize() {
  {
    const std::lock_guard lock(mutex_);
    require_init("aclFinalize");
  }
  const std::string left = leaks();
  std::map<int, Stream*> defaults;
  {
    const std::lock_guard lock(mutex_);
    initialized_ = false;
    defaults.swap(default_streams_);
  }
  for (const auto& [device, stream] : defaults) conductor_.close(stream);
  write_trace();
  t_device = -1;
  if (!left.empty()) fail(ACL_ERROR_INTERNAL_ERROR, "aclFinalize: left over:\n{}", left);
}

void Runtime::set_device(int device) {
  const std::lock_guard lock(mutex_);
  require_init("aclrtSetDevice");
  if (device < 0 || device >= devices_)
    fail(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtSetDevice: device {} is not one of 0..{}", device,
         devices_ - 1);
  if (!default_streams_.contains(device)) default_streams_[device] = conductor_.open(device, true);
  t_device = device;
}

void Runtime::reset_device(int device) {
  const std::lock_guard lock(mutex_);
  require_init("aclrtResetDevice");
  if (device < 0 || device >= devices_)
    fail(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtResetDevice: device {} is not one of 0..{}", device,
         devices_ - 1);
  if (t_device == device) t_device = -1;
}

int Runtime::current_device(const char* call, int code) const {
  {
    const std::lock_guard lock(mutex_);
    require_init(call);
  }
  if (t_device < 0) fail(code, "{}: this thread has no device; aclrtSetDevice is per thread", call);
  return t_device;
}

Stream* Runtime::create_stream() {
  const int device = current_device("aclrtCreateStream", ACL_ERROR_RT_CONTEXT_NULL);
  if (conductor_.open_streams(device) >= kMostStreams)
    fail(ACL_ERROR_RT_PARAM_INVALID,
         "aclrtCreateStream: {} streams of device {} are open, the most there can be", kMostStreams, device);
  return conductor_.open(device, false);
}

void Runtime::destroy_stream(Stream* stream) {
  if (!conductor_.known(stream))
    fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtDestroyStream: {} is not an open stream",
         static_cast<void*>(stream));
  conductor_.close(stream);
}

Stream& Runtime::stream_of(void* handle, const char* call) {
  const int device = current_device(call, ACL_ERROR_RT_CONTEXT_NULL);
  if (!handle) {
    const std::lock_guard lock(mutex_);
    return *default_streams_.at(device);
  }
  auto* stream = static_cast<Stream*>(handle);
  if (!conductor_.known(stream))
    fail(ACL_ERROR_RT_PARAM_INVALID, "{}: {} is not an open stream", call, handle);
  if (stream->device != device)
    fail(ACL_ERROR_RT_STREAM_CONTEXT, "{}: the stream belongs to device {}, this thread has device {}", call,
         stream->device, device);
  return *stream;
}

Event* Runtime::create_event(bool timed) {
  const int device = current_device("aclrtCreateEvent", ACL_ERROR_RT_CONTEXT_NULL);
  const std::lock_guard lock(mutex_);
  uint64_t& open = events_of_device_[device];
  if (open >= kMostEvents)
    fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtCreateEvent: {} events of device {} exist, the most there can be",
         kMostEvents, device);
  ++open;
  auto event = std::make_shared<Event>();
  event->device = device;
  event->timed = timed;
  events_[event.get()] = event;
  return event.get();
}

void Runtime::destroy_event(Event* event) {
  const int device = event_of(event, "aclrtDestroyEvent").device;
  const std::lock_guard lock(mutex_);
  --events_of_device_[device];
  events_.erase(event);
}

Event& Runtime::event_of(void* handle, const char* call) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find(static_cast<Event*>(handle));
  if (found == events_.end()) fail(ACL_ERROR_RT_PARAM_INVALID, "{}: {} is not an event", call, handle);
  return *found->second;
}

void* Runtime::allocate_pinned(size_t bytes) {
  if (bytes == 0) fail(ACL_ERROR_INVALID_PARAM, "aclrtMallocHost: size 0 is not allowed");
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data) fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMallocHost: no {} bytes", bytes);
  std::memset(data, 0xff, bytes);
  const std::lock_guard lock(mutex_);
  pinned_[reinterpret_cast<uintptr_t>(data)] = {bytes, next_pinned_++};
  return data;
}

void Runtime::free_pinned(void* data) {
  const std::lock_guard lock(mutex_);
  if (pinned_.erase(reinterpret_cast<uintptr_t>(data)) == 0)
    fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtFreeHost: {} is not pinned memory (or was freed before)", data);
  std::free(data);
}

uint64_t Runtime::pinned_id(const void* data, size_t bytes) const {
  const std::lock_guard lock(mutex_);
  auto after = pinned_.upper_bound(reinterpret_cast<uintptr_t>(data));
  if (after == pinned_.begin()) return 0;
  const auto& [start, block] = *--after;
  return reinterpret_cast<uintptr_t>(data) + bytes <= start + block.bytes ? block.id : 0;
}

uint64_t Runtime::pinned_bytes() const {
  const std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [start, block] : pinned_) sum += block.bytes;
  return sum;
}

void Runtime::disturb(const char* call) {
  std::this_thread::sleep_for(disturbed(call).stall);
}

Disturbance Runtime::disturbed(const std::string& call) {
  Disturbance what = faults_.due(call, t_device);
  if (what.code != 0) fail(what.code, "{}: fails because a rule wants it to ({})", call, what.rule);
  return what;
}

void Runtime::count(const std::string& what, uint64_t times) {
  const std::lock_guard lock(mutex_);
  counts_[what] += times;
}

uint64_t Runtime::counted(const std::string& what) const {
  if (what == "fault") return conductor_.faults();
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(what);
  return found == counts_.end() ? 0 : found->second;
}

void Runtime::reset_counts() {
  const std::lock_guard lock(mutex_);
  counts_.clear();
  conductor_.reset_faults();
}

void Runtime::born(const void* object, const char* kind) {
  const std::lock_guard lock(mutex_);
  objects_[object] = kind;
}

bool Runtime::died(const void* object, const char* kind) {
  const std::lock_guard lock(mutex_);
  const auto found = objects_.find(object);
  if (found == objects_.end() || std::strcmp(found->second, kind) != 0) return false;
  objects_.erase(found);
  return true;
}

bool Runtime::alive(const void* object, const char* kind) const {
  const std::lock_guard lock(mutex_);
  const auto found = objects_.find(object);
  return found != objects_.end() && std::strcmp(found->second, kind) == 0;
}

std::string Runtime::leaks() const {
  std::string text;
  for (const std::string& line : memory_.leaks()) text += line + "\n";
  if (const size_t streams = conductor_.open_streams()) text += fmt::format("{} streams\n", streams);
  const std::lock_guard lock(mutex_);
  if (!events_.empty()) text += fmt::format("{} events\n", events_.size());
  for (const auto& [start, block] : pinned_)
    text += fmt::format("{} bytes of pinned host memory\n", block.bytes);
  std::map<std::string, size_t> kinds;
  for (const auto& [object, kind] : objects_) ++kinds[kind];
  for (const auto& [kind, number] : kinds) text += fmt::format("{} of kind {}\n", number, kind);
  return text;
}

}  // namespace cann_sim
