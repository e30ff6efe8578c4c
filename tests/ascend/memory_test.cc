// Memory of a card on the simulator: what is kept, what is given back, and what happens where there is none.

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <functional>

#include "ascend/simulator.h"
#include "device/device.h"

namespace longspan {
namespace {

using testing_support::Simulator;

class AscendMemory : public testing::Test {
 protected:
  DeviceOptions options() const {
    DeviceOptions result{.backend = "ascend", .compute = DType::kBF16};
    result.ascend.home = simulator_.home();
    return result;
  }
  // The code of the Error that `call` throws.
  static std::optional<ErrorCode> code_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return std::nullopt;
  }

  Simulator simulator_{"8.5"};
  std::unique_ptr<Device> device_ = make_device(options());
  std::unique_ptr<Stream> stream_ = device_->make_stream();
};

TEST_F(AscendMemory, RunsOutWithItsCode) {
  BlockSource& memory = device_->memory();
  EXPECT_EQ(code_of([&] { memory.allocate(int64_t{1} << 40); }), ErrorCode::kCapacity) << "a terabyte";
  for (const int code : {200000, 207001}) {  // of ACL, and of the runtime below it
    simulator_.fail("aclrtMalloc", 0, code);
    EXPECT_EQ(code_of([&] { memory.allocate(1000); }), ErrorCode::kCapacity) << code;
  }
  simulator_.fail("aclrtMalloc", 0, 507899);
  EXPECT_EQ(code_of([&] { memory.allocate(1000); }), ErrorCode::kInternal);
  void* block = memory.allocate(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
  memory.release(block, 1000);
}

TEST_F(AscendMemory, ReleasedBlocksGoBackToTheCard) {
  const uint64_t before = simulator_.device_bytes();
  for (int64_t bytes = 1; bytes < 1000; bytes += 7) {
    void* block = device_->memory().allocate(bytes);
    device_->memory().release(block, bytes);
  }
  EXPECT_EQ(simulator_.device_bytes(), before);
}

// Pinned memory of other classes makes room before a request fails.
TEST_F(AscendMemory, PinnedMemoryIsTrimmed) {
  Arena arena(device_->memory());
  OpContext ctx{.arena = arena, .stream = stream_.get()};
  device_->ops().upload(ctx, std::vector<int32_t>(100000));
  ctx.wait();
  EXPECT_GE(simulator_.pinned_bytes(), 400000u);
  simulator_.fail("aclrtMallocHost", 0, 207001);
  device_->ops().upload(ctx, std::vector<int32_t>(10));
  ctx.wait();
  EXPECT_LE(simulator_.pinned_bytes(), 4096u);
}

// What a step of T tokens stages: indices, the angles. However T varies, what is kept
// is what the largest step takes.
TEST_F(AscendMemory, StepsOfManySizesKeepLittle) {
  constexpr int32_t kSteps = 200, kHalf = 32;
  Arena arena(device_->memory());
  OpContext ctx{.arena = arena, .stream = stream_.get()};
  const std::vector<float> frequencies(kHalf, 0.5f);
  uint64_t pinned = 0, device = 0;
  for (int32_t step = kSteps; step > 0; --step) {  // the largest first
    arena.settle();
    const Arena::Scope scope(arena);
    const int64_t tokens = 100 + 37 * step;
    const std::vector<int32_t> positions(static_cast<size_t>(tokens), 3);
    const IndexArray indices = device_->ops().upload(ctx, positions);
    device_->ops().rope_table(ctx, indices, frequencies, 1,
                              arena.matrix(tokens, device_->ops().rope_cols(2 * kHalf)));
    ctx.wait();
    if (step == kSteps) {
      pinned = simulator_.pinned_bytes();
      device = simulator_.device_bytes();
    }
  }
  // Classes are powers of two: below the largest step's blocks all smaller ones make as much again.
  EXPECT_LE(simulator_.pinned_bytes(), 2 * pinned);
  EXPECT_LE(simulator_.device_bytes(), device);
}

// Between the two phases an operator's workspace may be refused; its executor then never runs, and is ended.
TEST_F(AscendMemory, AWorkspaceThatIsRefusedLeavesNoExecutor) {
  const std::vector<float> ones(64, 1);
  const WeightView weight[] = {{ones.data(), DType::kF32, 8, 8, 8}};
  const auto packed = device_->ops().pack_linear(weight, {}, LinearPrecision::kF32);
  Arena rows(device_->memory()), scratch(device_->memory());
  const Matrix x = rows.matrix(4, 8), out = rows.matrix(4, 8);
  OpContext ctx{.arena = scratch, .stream = stream_.get()};
  simulator_.fail("aclrtMalloc", 0, 207001);
  simulator_.fail("aclrtMalloc", 1, 207001);
  EXPECT_EQ(code_of([&] { device_->ops().linear(ctx, x, *packed, out, false); }), ErrorCode::kCapacity);
  EXPECT_THAT(simulator_.leaks(), testing::Not(testing::HasSubstr("aclOpExecutor")));
}

// A thread's device is its own setting, which others may change between two ops.
TEST_F(AscendMemory, OpsSetTheirDevice) {
  Arena arena(device_->memory());
  OpContext ctx{.arena = arena, .stream = stream_.get()};
  device_->ops().upload(ctx, std::vector<int32_t>(10));
  simulator_.set_device(1);
  device_->ops().upload(ctx, std::vector<int32_t>(10));
  simulator_.set_device(1);
  ctx.wait();
}

}  // namespace
}  // namespace longspan
