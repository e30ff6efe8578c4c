#pragma once

#include <memory>

#include "device/device.h"
#include "device/host_memory.h"

namespace longspan::testing_support {

/// Host memory with the ops of a test.
class DeviceWithOps final : public Device {
 public:
  explicit DeviceWithOps(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}
  BlockSource& memory() override { return memory_; }
  Ops& ops() override { return *ops_; }
  int64_t memory_bytes() const override { return host_memory_bytes(); }
  HardwareLimits measure_limits(int) const override { return {}; }

 private:
  HostMemory memory_;
  std::unique_ptr<Ops> ops_;
};

}  // namespace longspan::testing_support
