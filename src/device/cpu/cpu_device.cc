#include "device/cpu/cpu_device.h"

#include "device/cpu/cpu_features.h"
#include "device/cpu/cpu_ops.h"
#include "device/cpu/limits.h"
#include "device/host_memory.h"

namespace longspan {
namespace {

class CpuDevice : public Device {
 public:
  CpuDevice(DType compute, bool int8, Isa isa) : compute_(compute), int8_(int8), ops_(compute, int8, isa) {}
  BlockSource& memory() override { return memory_; }
  Ops& ops() override { return ops_; }
  int64_t memory_bytes() const override { return host_memory_bytes(); }
  HardwareLimits measure_limits(int threads) const override { return cpu_limits(compute_, int8_, threads); }

 private:
  DType compute_;
  bool int8_;
  HostMemory memory_;
  CpuOps ops_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(DType compute, bool int8, std::string_view isa) {
  return std::make_unique<CpuDevice>(compute, int8, parse_isa(isa));
}

}  // namespace longspan
