#include "device/reference/reference_device.h"

#include "device/host_memory.h"
#include "device/reference/reference_ops.h"

namespace longspan {
namespace {

class ReferenceDevice : public Device {
 public:
  ReferenceDevice(DType compute, bool int8) : ops_(compute, int8) {}
  BlockSource& memory() override { return memory_; }
  Ops& ops() override { return ops_; }
  int64_t memory_bytes() const override { return host_memory_bytes(); }
  HardwareLimits measure_limits(int) const override { return {}; }

 private:
  HostMemory memory_;
  ReferenceOps ops_;
};

}  // namespace

std::unique_ptr<Device> make_reference_device(DType compute, bool int8) {
  return std::make_unique<ReferenceDevice>(compute, int8);
}

}  // namespace longspan
