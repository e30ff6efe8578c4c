#include "abi/sim.h"

#include <string>

#include "core/profile.h"
#include "core/runtime.h"

using cann_sim::Runtime;

extern "C" {

const char* cann_sim_profile(void) {
  return cann_sim::profile().version;
}

uint64_t cann_sim_count(const char* what) {
  return Runtime::get().counted(what);
}

void cann_sim_reset_counts(void) {
  Runtime::get().reset_counts();
}

void cann_sim_seed(uint64_t seed) {
  Runtime::get().conductor().seed(seed);
}

int cann_sim_fault(const char* rule) {
  return cann_sim::guarded([&] { Runtime::get().faults().add(rule); });
}

void cann_sim_clear_faults(void) {
  Runtime::get().faults().clear();
}

void cann_sim_record(int on) {
  Runtime::get().conductor().time().timeline().record(on != 0);
}

const char* cann_sim_journal(int device) {
  thread_local std::string text;
  text = Runtime::get().conductor().time().timeline().journal(device);
  return text.c_str();
}

int cann_sim_write_trace(const char* path) {
  return cann_sim::guarded([&] {
    cann_sim::TimeModel& time = Runtime::get().conductor().time();
    time.timeline().write(path, time.card());
  });
}

uint64_t cann_sim_device_bytes(int device) {
  const cann_sim::DeviceMemory& memory = Runtime::get().memory();
  return memory.total_bytes() - memory.free_bytes(device);
}

uint64_t cann_sim_pinned_bytes(void) {
  return Runtime::get().pinned_bytes();
}

const char* cann_sim_leaks(void) {
  thread_local std::string text;
  text = Runtime::get().leaks();
  return text.c_str();
}

}  // extern "C"
