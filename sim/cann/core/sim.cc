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

const char* cann_sim_leaks(void) {
  thread_local std::string text;
  text = Runtime::get().leaks();
  return text.c_str();
}

}  // extern "C"
