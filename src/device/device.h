#pragma once

#include <longspan/ascend.h>
#include <longspan/hardware_limits.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "device/arena.h"
#include "device/ops.h"

namespace longspan {

/// A device: its memory and its ops. One per process and kind; used by all local ranks at once.
class Device {
 public:
  virtual ~Device() = default;
  virtual BlockSource& memory() = 0;
  virtual Ops& ops() = 0;
  /// A rank's queue; null where ops are done when they return.
  virtual std::unique_ptr<Stream> make_stream() { return nullptr; }
  /// What a person needs to know of the installation: {"SoC", "Ascend910B3"}, ...
  virtual std::vector<std::pair<std::string, std::string>> facts() const { return {}; }
  /// Whether the host, and so a communicator between threads, may touch matrices of this device.
  virtual bool in_host_memory() const { return true; }

  /// The device `steps` places after this one, opened as this one was. Throws Error(kNotSupported) where
  /// there is none.
  virtual std::unique_ptr<Device> another(int32_t steps);
  /// What ranks with a device each must be given to meet in one group; one of them makes it. Throws
  /// Error(kNotSupported) where devices have no collectives of their own.
  virtual std::vector<std::byte> new_group();
  /// A rank's place in such a group, whose collectives take this device's memory and are only enqueued: in
  /// the order of ctx.stream, which they neither wait for. Returns when every rank has come. What `ctx` names
  /// must outlive it.
  virtual std::unique_ptr<Communicator> join_group(std::span<const std::byte> group, int32_t rank,
                                                   int32_t size, const OpContext& ctx);

  /// Bytes that weights, KV and scratch may take in all (on CPU: the cgroup's limit or the machine's memory).
  virtual int64_t memory_bytes() const = 0;
  /// The hardware at its best with `threads` cores; takes about a second. Unknown (0) where nothing measures
  /// it.
  virtual HardwareLimits measure_limits(int threads) const = 0;
};

struct DeviceOptions {
  std::string backend = "cpu";   // a name of `backends()`, or "npu" for "ascend"
  DType compute = DType::kBF16;  // kBF16 or kF32
  bool int8 = false;             // quantise the weights that LinearPrecision::kCompute names
  std::string isa = "auto";  // cpu: "auto", "amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2", "portable"
  AscendOptions ascend = {};
};

/// Names this build accepts, in the order of preference: "cpu", "ascend", "reference".
std::vector<std::string> backends();

/// Throws Error(kNotSupported) for a known backend that is not in this build, Error(kUsage) for an unknown
/// name or an instruction set the machine lacks, naming the choices.
std::unique_ptr<Device> make_device(const DeviceOptions& options);

}  // namespace longspan
