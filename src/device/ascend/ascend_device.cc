#include "device/ascend/ascend_device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include <cstring>

#include "base/check.h"
#include "device/ascend/ascend_ops.h"
#include "device/ascend/ascend_stream.h"
#include "device/ascend/hccl_comm.h"
#include "device/ascend/kernels.h"

namespace longspan {
namespace {

class AscendDevice final : public Device {
 public:
  explicit AscendDevice(const AscendOptions& options)
      : options_(options), card_(options.home, options.device), ops_(card_, options.cp_launches) {}
  BlockSource& memory() override { return card_; }
  Ops& ops() override { return ops_; }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<ascend::AscendStream>(card_); }
  bool in_host_memory() const override { return false; }
  std::vector<std::pair<std::string, std::string>> facts() const override;
  int64_t memory_bytes() const override { return card_.memory().total; }
  HardwareLimits measure_limits(int) const override { return {}; }
  std::unique_ptr<Device> another(int32_t steps) override;
  std::vector<std::byte> new_group() override;
  std::unique_ptr<Communicator> join_group(std::span<const std::byte> group, int32_t rank, int32_t size,
                                           const OpContext& ctx) override;

 private:
  const AscendOptions options_;
  ascend::Card card_;
  ascend::AscendOps ops_;
};

std::vector<std::pair<std::string, std::string>> AscendDevice::facts() const {
  const ascend::Cann& cann = card_.cann();
  std::vector<std::string> found, missing;
  const ascend::Card::Memory memory = card_.memory();
  ascend::for_each_op(cann.ops,
                      [&](const auto& op) { (op.describe ? found : missing).emplace_back(op.name); });
  return {{"SoC", card_.acl().aclrtGetSocName()},
          {"CANN", cann.version()},
          {"memory", fmt::format("{} bytes, {} free", memory.total, memory.free)},
          {"attention", ascend::takes_two_launches(options_.cp_launches, cann.version())
                            ? "two launches where sequences are cut"
                            : "one launch"},
          {"libraries", fmt::format("{}", fmt::join(cann.libraries(), ", "))},
          {"operators found", fmt::format("{}", fmt::join(found, ", "))},
          {"operators missing", missing.empty() ? "none" : fmt::format("{}", fmt::join(missing, ", "))},
          {"HCCL", !cann.has_hccl()           ? "not found"
                   : cann.hccl.HcclAllGatherV ? "found, gathers exact counts"
                                              : "found, pads gathers (no HcclAllGatherV)"}};
}

std::unique_ptr<Device> AscendDevice::another(int32_t steps) {
  card_.cann().require_hccl();  // before weights are loaded
  AscendOptions next = options_;
  next.device += steps;
  if (next.device >= card_.count())
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format(
            "--comm hccl: each rank has a card; rank {} needs card {}, and {} are seen; use a "
            "layout of at most {} ranks, or --comm threads and --kv replicate, whose ranks share card {}",
            steps, next.device, card_.count(), card_.count() - options_.device, options_.device));
  return std::make_unique<AscendDevice>(next);
}

std::vector<std::byte> AscendDevice::new_group() {
  card_.cann().require_hccl();
  card_.enter();
  ascend::HcclRoot root = {};
  card_.check(card_.cann().hccl.HcclGetRootInfo(&root), "HcclGetRootInfo");
  const auto bytes = std::as_bytes(std::span(root.bytes));
  return {bytes.begin(), bytes.end()};
}

std::unique_ptr<Communicator> AscendDevice::join_group(std::span<const std::byte> group, int32_t rank,
                                                       int32_t size, const OpContext& ctx) {
  ascend::HcclRoot root = {};
  check(group.size() == sizeof root.bytes, "a group of cards is known by its root info");
  std::memcpy(root.bytes, group.data(), sizeof root.bytes);
  return std::make_unique<ascend::HcclCommunicator>(card_, root, rank, size, ctx);
}

}  // namespace

std::unique_ptr<Device> make_ascend_device(DType compute, bool int8, const AscendOptions& options) {
  if (!options.use_fia)
    throw Error(
        ErrorCode::kNotSupported,
        "backend ascend: attention, and so context parallelism, is not implemented without FIA; unset "
        "ASCEND_USE_FIA=0");
  if (options.cp_launches < 0 || options.cp_launches > 2)
    throw Error(ErrorCode::kUsage,
                fmt::format("ascend.cp_launches (ASCEND_CP_LAUNCHES) must be 1, 2, or 0 (by release); got {}",
                            options.cp_launches));
  if (int8)
    throw Error(ErrorCode::kNotSupported,
                "backend ascend: --dtype int8 is not in this build; use --dtype bf16");
  if (compute != DType::kBF16)
    throw Error(ErrorCode::kNotSupported,
                "backend ascend: fused attention computes in bf16, not in f32; use --dtype bf16");
  return std::make_unique<AscendDevice>(options);
}

}  // namespace longspan
