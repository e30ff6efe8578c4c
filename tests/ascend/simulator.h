#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "abi/sim.h"

namespace longspan::testing_support {

/// A release of the CANN simulator: where it lies, and what it saw.
class Simulator {
 public:
  explicit Simulator(const std::string& release) : home_(std::string(CANN_SIM_FOLDER) + "/" + release) {
    setenv("ASCEND_OPP_PATH", "/opt/simulated/opp", 1);
    const std::string core = home_ + "/lib64/libcann_sim_" + release + ".so";
    core_ = dlopen(core.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!core_) throw std::runtime_error(dlerror());
  }

  const std::string& home() const { return home_; }
  uint64_t count(const char* what) const { return get<decltype(cann_sim_count)>("cann_sim_count")(what); }
  void reset_counts() const { get<decltype(cann_sim_reset_counts)>("cann_sim_reset_counts")(); }
  void seed(uint64_t value) const { get<decltype(cann_sim_seed)>("cann_sim_seed")(value); }
  /// A rule as in a CANN_SIM_FAULTS file.
  void fault(const std::string& rule) const {
    if (get<decltype(cann_sim_fault)>("cann_sim_fault")(rule.c_str()) != 0)
      throw std::invalid_argument("no rule: " + rule);
  }
  /// The next call of `call` after `after` others fails, once.
  void fail(const char* call, uint64_t after, int code) const {
    fault(std::string(call) + " nth " + std::to_string(after + 1) + " fail " + std::to_string(code));
  }
  void clear_faults() const { get<decltype(cann_sim_clear_faults)>("cann_sim_clear_faults")(); }
  void record(bool on) const { get<decltype(cann_sim_record)>("cann_sim_record")(on ? 1 : 0); }
  std::string journal(int device) const {
    return get<decltype(cann_sim_journal)>("cann_sim_journal")(device);
  }
  void write_trace(const std::string& path) const {
    if (get<decltype(cann_sim_write_trace)>("cann_sim_write_trace")(path.c_str()) != 0)
      throw std::runtime_error("no trace at " + path);
  }
  uint64_t device_bytes() const { return get<decltype(cann_sim_device_bytes)>("cann_sim_device_bytes")(0); }
  uint64_t pinned_bytes() const { return get<decltype(cann_sim_pinned_bytes)>("cann_sim_pinned_bytes")(); }
  /// As another part of the program might.
  void set_device(int32_t device) const {
    void* runtime = dlopen((home_ + "/lib64/libascendcl.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    reinterpret_cast<int (*)(int32_t)>(dlsym(runtime, "aclrtSetDevice"))(device);
  }
  std::string leaks() const { return get<decltype(cann_sim_leaks)>("cann_sim_leaks")(); }

 private:
  template <class F>
  F* get(const char* name) const {
    return reinterpret_cast<F*>(dlsym(core_, name));
  }
  std::string home_;
  void* core_;
};

}  // namespace longspan::testing_support
