#include "abi/acl.h"
#include "core/fault.h"
#include "core/runtime.h"

using cann_sim::entry;
using cann_sim::Event;
using cann_sim::fail;
using cann_sim::Runtime;
using cann_sim::Stream;

namespace {

aclError create_stream(const char* call, aclrtStream* stream) {
  return entry(call, [&] {
    if (!stream) fail(ACL_ERROR_INVALID_PARAM, "aclrtCreateStream: null");
    *stream = Runtime::get().create_stream();
  });
}

aclError synchronize(const char* call, aclrtStream stream, int32_t timeout_ms) {
  return entry(call, [&] {
    Runtime& runtime = Runtime::get();
    Stream& waited = runtime.stream_of(stream, "aclrtSynchronizeStream");
    runtime.count("sync");
    runtime.conductor().synchronize(
        waited, timeout_ms < 0 ? runtime.sync_limit() : std::chrono::milliseconds(timeout_ms));
  });
}

aclError create_event(const char* call, aclrtEvent* event, bool timed) {
  return entry(call, [&] {
    if (!event) fail(ACL_ERROR_INVALID_PARAM, "aclrtCreateEvent: null");
    *event = Runtime::get().create_event(timed);
  });
}

}  // namespace

extern "C" {

aclError aclrtCreateStream(aclrtStream* stream) {
  return create_stream(__func__, stream);
}

aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
  return create_stream(__func__, stream);
}

aclError aclrtDestroyStream(aclrtStream stream) {
  return entry(__func__, [&] { Runtime::get().destroy_stream(static_cast<Stream*>(stream)); });
}

aclError aclrtSynchronizeStream(aclrtStream stream) {
  return synchronize(__func__, stream, -1);
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeoutMs) {
  return synchronize(__func__, stream, timeoutMs);
}

aclError aclrtSynchronizeDevice(void) {
  return entry(__func__, [] {
    Runtime& runtime = Runtime::get();
    const int device = runtime.current_device("aclrtSynchronizeDevice", ACL_ERROR_RT_CONTEXT_NULL);
    runtime.count("sync");
    runtime.conductor().synchronize_device(device, runtime.sync_limit());
  });
}

aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
  return entry(__func__, [&] {
    if (!status) fail(ACL_ERROR_INVALID_PARAM, "aclrtStreamQuery: null");
    Runtime& runtime = Runtime::get();
    const bool done = runtime.conductor().query(runtime.stream_of(stream, "aclrtStreamQuery"));
    *status = done ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
  });
}

aclError aclrtCreateEvent(aclrtEvent* event) {
  return create_event(__func__, event, true);
}

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t) {
  return create_event(__func__, event, true);
}

aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flag) {
  return create_event(__func__, event, (flag & ACL_EVENT_TIME_LINE) != 0);
}

aclError aclrtDestroyEvent(aclrtEvent event) {
  return entry(__func__, [&] { Runtime::get().destroy_event(static_cast<Event*>(event)); });
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  return entry(__func__, [&] {
    Runtime& runtime = Runtime::get();
    runtime.conductor().record(runtime.event_of(event, "aclrtRecordEvent"),
                               runtime.stream_of(stream, "aclrtRecordEvent"));
  });
}

aclError aclrtResetEvent(aclrtEvent event, aclrtStream) {
  return entry(__func__, [&] { Runtime::get().event_of(event, "aclrtResetEvent"); });
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  return entry(__func__, [&] {
    Runtime& runtime = Runtime::get();
    Event& waited = runtime.event_of(event, "aclrtStreamWaitEvent (stream first, then event)");
    runtime.conductor().wait_event(runtime.stream_of(stream, "aclrtStreamWaitEvent"), waited);
  });
}

aclError aclrtSynchronizeEvent(aclrtEvent event) {
  return entry(__func__, [&] {
    Runtime& runtime = Runtime::get();
    Event& waited = runtime.event_of(event, "aclrtSynchronizeEvent");
    runtime.count("sync");
    runtime.conductor().synchronize_event(waited, runtime.sync_limit());
  });
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  return entry(__func__, [&] {
    if (!status) fail(ACL_ERROR_INVALID_PARAM, "aclrtQueryEventStatus: null");
    Runtime& runtime = Runtime::get();
    const bool done = runtime.conductor().query(runtime.event_of(event, "aclrtQueryEventStatus"));
    *status = done ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  });
}

aclError aclrtEventElapsedTime(float* ms, aclrtEvent start, aclrtEvent end) {
  return entry(__func__, [&] {
    if (!ms) fail(ACL_ERROR_INVALID_PARAM, "aclrtEventElapsedTime: null");
    Runtime& runtime = Runtime::get();
    const Event& a = runtime.event_of(start, "aclrtEventElapsedTime");
    const Event& b = runtime.event_of(end, "aclrtEventElapsedTime");
    if (!a.timed || !b.timed)
      fail(ACL_ERROR_RT_PARAM_INVALID,
           "aclrtEventElapsedTime: an event was made with flags that lack ACL_EVENT_TIME_LINE (8)");
    const std::lock_guard lock(runtime.conductor().mutex());
    if (!a.time || !b.time || a.done < a.recorded || b.done < b.recorded)
      fail(ACL_ERROR_RT_PARAM_INVALID,
           "aclrtEventElapsedTime: an event is not recorded yet; synchronise first");
    if (a.stream != b.stream)
      fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtEventElapsedTime: the events were recorded on two streams");
    *ms = std::chrono::duration<float, std::milli>(*b.time - *a.time).count();
  });
}

}  // extern "C"
