#include <gmock/gmock.h>
#include <longspan/error.h>

#include "device/cpu/cpu_features.h"
#include "device/device.h"

namespace longspan {
namespace {

ErrorCode refusal(const DeviceOptions& options, std::string* message) {
  try {
    make_device(options);
  } catch (const Error& e) {
    *message = e.what();
    return e.code();
  }
  ADD_FAILURE() << "not refused: " << options.backend << " " << options.isa;
  return ErrorCode::kInternal;
}

TEST(Registry, MakesEveryBackendItNames) {
  EXPECT_THAT(backends(), testing::ElementsAre("cpu", "ascend", "reference"));
  for (const char* backend : {"cpu", "reference"}) {  // ascend: tests/ascend
    for (DType compute : {DType::kF32, DType::kBF16}) {
      const auto device = make_device({.backend = backend, .compute = compute});
      EXPECT_THAT(device->ops().name(), testing::StartsWith(backend));
      EXPECT_GT(device->memory_bytes(), int64_t{64} << 20);
    }
  }
}

TEST(Registry, NamesTheArithmetic) {
  EXPECT_EQ(make_device({.backend = "reference"})->ops().name(), "reference bf16");
  EXPECT_EQ(make_device({.backend = "cpu", .compute = DType::kF32, .isa = "portable"})->ops().name(),
            "cpu portable f32");
  EXPECT_EQ(make_device({.backend = "cpu", .compute = DType::kBF16, .isa = "portable"})->ops().name(),
            "cpu portable f32 with bf16 weights");
}

TEST(Registry, RefusesKnownBackendsThatAreNotInTheBuild) {
  std::string message;
  EXPECT_EQ(refusal({.backend = "cuda"}, &message), ErrorCode::kNotSupported);
  EXPECT_THAT(message,
              testing::AllOf(testing::HasSubstr("cuda"), testing::HasSubstr("cpu, ascend, reference")));
}

TEST(Registry, RefusesUnknownNames) {
  std::string message;
  EXPECT_EQ(refusal({.backend = "gpu"}, &message), ErrorCode::kUsage);
  EXPECT_EQ(message, "unknown backend 'gpu'; choices: cpu, ascend, reference");
  EXPECT_EQ(refusal({.backend = "cpu", .isa = "mmx"}, &message), ErrorCode::kUsage);
  EXPECT_THAT(message, testing::HasSubstr("mmx"));
  EXPECT_EQ(refusal({.backend = "cpu", .compute = DType::kI32}, &message), ErrorCode::kUsage);
}

}  // namespace
}  // namespace longspan
