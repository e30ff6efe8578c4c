#include "device/ascend/ascend_device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include "device/ascend/ascend_ops.h"
#include "device/ascend/ascend_stream.h"

namespace longspan {
namespace {

class AscendDevice final : public Device {
 public:
  explicit AscendDevice(const AscendOptions& options) : card_(options.home, options.device), ops_(card_) {}
  BlockSource& memory() override { return card_; }
  Ops& ops() override { return ops_; }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<ascend::AscendStream>(card_); }
  bool in_host_memory() const override { return false; }
  std::vector<std::pair<std::string, std::string>> facts() const override;
  int64_t memory_bytes() const override { return card_.memory().total; }
  HardwareLimits measure_limits(int) const override { return {}; }

 private:
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
          {"libraries", fmt::format("{}", fmt::join(cann.libraries(), ", "))},
          {"operators found", fmt::format("{}", fmt::join(found, ", "))},
          {"operators missing", missing.empty() ? "none" : fmt::format("{}", fmt::join(missing, ", "))}};
}

}  // namespace

std::unique_ptr<Device> make_ascend_device(DType compute, bool int8, const AscendOptions& options) {
  if (!options.use_fia)
    throw Error(
        ErrorCode::kNotSupported,
        "backend ascend: attention, and so context parallelism, is not implemented without FIA; unset "
        "ASCEND_USE_FIA=0");
  if (int8)
    throw Error(ErrorCode::kNotSupported,
                "backend ascend: --dtype int8 is not in this build; use --dtype bf16");
  if (compute != DType::kBF16)
    throw Error(ErrorCode::kNotSupported,
                "backend ascend: fused attention computes in bf16, not in f32; use --dtype bf16");
  return std::make_unique<AscendDevice>(options);
}

}  // namespace longspan
