// The ascend device on the simulator: its ops against the reference, what it refuses and how.

#include "device/device.h"

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <filesystem>
#include <fstream>

#include "ascend/simulator.h"
#include "device/self_check.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::Simulator;
using testing_support::TempDir;

namespace fs = std::filesystem;

DeviceOptions ascend_options(const std::string& home) {
  DeviceOptions options{.backend = "ascend", .compute = DType::kBF16};
  options.ascend.home = home;
  return options;
}

std::string refusal(const DeviceOptions& options, ErrorCode code = ErrorCode::kNotSupported) {
  try {
    make_device(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(AscendDevice, EveryOpIsWithinItsBound) {
  for (const char* release : {"8.5", "9.0"}) {
    const Simulator simulator(release);
    {
      const auto device = make_device(ascend_options(simulator.home()));
      const auto checks = check_ops(*device);
      EXPECT_EQ(checks.size(), 30u);
      for (const OpCheck& check : checks)
        EXPECT_TRUE(check.ok()) << check.op << ": " << check.error << " of " << check.bound << ' '
                                << check.failure;
    }
    EXPECT_EQ(simulator.leaks(), "");
  }
}

/// Ops on a stream of its own, enqueued and not waited for: x += swiglu(norm(rows) W), for rows by index.
class Chain {
 public:
  Chain(Device& device, float factor)
      : ops_(device.ops()), arena_(device.memory()), stream_(device.make_stream()) {
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = factor * static_cast<float>(i % 23) - 3;
    for (size_t i = 0; i < weight_.size(); ++i) weight_[i] = factor * static_cast<float>(i % 7) / 8;
    embedding_ = ops_.make_embedding({table_.data(), DType::kF32, kVocab, kWidth, kWidth});
    norm_ = ops_.resident(std::vector<float>(kWidth, factor));
    const WeightView w[] = {{weight_.data(), DType::kF32, 2 * kWidth, kWidth, kWidth}};
    linear_ = ops_.pack_linear(w, {}, LinearPrecision::kCompute);
    x_ = arena_.matrix(kRows, kWidth);
    ops_.clear(ctx_, x_);
  }
  void enqueue(int32_t first) {
    const Arena::Scope scope(arena_);
    const Matrix rows = arena_.matrix(kRows, kWidth), both = arena_.matrix(kRows, 2 * kWidth);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < kRows; ++i) ids.push_back((first + 3 * i) % kVocab);
    ops_.embedding(ctx_, ops_.upload(ctx_, ids), *embedding_, rows);
    ops_.rms_norm(ctx_, rows, norm_.get(), 1e-6f, rows);
    ops_.linear(ctx_, rows, *linear_, both, false);
    ops_.swiglu(ctx_, both, rows);
    ops_.add(ctx_, rows, x_);
  }
  std::vector<float> result() {
    std::vector<float> values(kRows * kWidth);
    ops_.download(ctx_, x_, values);
    return values;
  }

 private:
  static constexpr int32_t kRows = 5, kVocab = 11;
  static constexpr int64_t kWidth = 32;
  Ops& ops_;
  std::vector<float> table_ = std::vector<float>(kVocab * kWidth),
                     weight_ = std::vector<float>(2 * kWidth * kWidth);
  std::unique_ptr<EmbeddingTable> embedding_;
  std::shared_ptr<const float[]> norm_;
  std::unique_ptr<LinearWeight> linear_;
  Arena arena_;
  std::unique_ptr<Stream> stream_;
  OpContext ctx_{.arena = arena_, .stream = stream_.get()};
  Matrix x_;
};

// Two ranks' work, enqueued in turns and run in another order each time: the results of each one alone.
TEST(AscendDevice, StreamsDoNotDisturbEachOther) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  constexpr int32_t kRounds = 4;
  std::vector<std::vector<float>> alone;
  for (const float factor : {0.5f, 0.25f}) {
    Chain chain(*device, factor);
    for (int32_t round = 0; round < kRounds; ++round) chain.enqueue(round);
    alone.push_back(chain.result());
  }
  ASSERT_NE(alone[0], alone[1]);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    simulator.seed(seed);
    Chain first(*device, 0.5f), second(*device, 0.25f);
    for (int32_t round = 0; round < kRounds; ++round) {
      first.enqueue(round);
      second.enqueue(round);
    }
    EXPECT_EQ(second.result(), alone[1]) << "seed " << seed;
    EXPECT_EQ(first.result(), alone[0]) << "seed " << seed;
  }
}

TEST(AscendDevice, AnOldReleaseRefusesAttentionWithItsReason) {
  const Simulator simulator("8.1");
  const auto device = make_device(ascend_options(simulator.home()));
  int refused = 0;
  for (const OpCheck& check : check_ops(*device)) {
    if (check.ok()) continue;
    ++refused;
    EXPECT_THAT(check.failure,
                AllOf(HasSubstr("CANN 8.1"), HasSubstr("head dim 64"), HasSubstr("must be 192"),
                      HasSubstr("aclnnFusedInferAttentionScoreV2 is not there"),
                      HasSubstr("aclnnFusedInferAttentionScoreV4 is not there")));
  }
  EXPECT_EQ(refused, 10) << "the KV pool can't be made";
}

TEST(AscendDevice, OnlyPagesOf128AndWholeBf16) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  try {
    device->ops().make_kv_pool({1, 4, 16, 1, 64, 1, 64});
    ADD_FAILURE() << "a page of 16 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_THAT(error.what(), HasSubstr("use --page-size 128"));
  }
  try {
    device->ops().make_kv_pool({1, 4, 128, 1, 96, 1, 96});
    ADD_FAILURE() << "a head dim of 96 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
    EXPECT_THAT(error.what(), HasSubstr("head dim 96"));
  }
  DeviceOptions options = ascend_options(simulator.home());
  options.compute = DType::kF32;
  EXPECT_THAT(refusal(options), HasSubstr("use --dtype bf16"));
  options.compute = DType::kBF16;
  options.int8 = true;
  EXPECT_THAT(refusal(options), HasSubstr("int8"));
  options.int8 = false;
  options.ascend.use_fia = false;
  EXPECT_THAT(refusal(options), AllOf(HasSubstr("not implemented without FIA"), HasSubstr("ASCEND_USE_FIA")));
  options.ascend.use_fia = true;
  options.ascend.cp_launches = 3;
  EXPECT_THAT(refusal(options, ErrorCode::kUsage), HasSubstr("must be 1, 2, or 0 (by release); got 3"));
  options.ascend.cp_launches = 0;
  options.ascend.device = 8;
  EXPECT_THAT(refusal(options), HasSubstr("device 8 is not there: 8 devices"));
}

// Whichever way a release says that it has no kernel, at the start and with the model's own heads.
TEST(AscendDevice, FusedAttentionIsAskedAtTheStart) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  const auto refusal_of = [&](const KvShape& shape) -> std::string {
    try {
      device->ops().make_kv_pool(shape);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotSupported);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal_of({1, 4, 128, 2, 64, 2, 64, 128}), "accepted");
  EXPECT_THAT(refusal_of({1, 4, 128, 2, 64, 2, 64, 130}),
              AllOf(HasSubstr("130 query heads, 2 key heads"), HasSubstr("64 times it at most")));
  for (const int code : {161002, 561002, 561003, 561112}) {
    simulator.fail("aclnnFusedInferAttentionScoreV3GetWorkspaceSize", 0, code);
    EXPECT_THAT(refusal_of({1, 4, 128, 1, 64, 1, 64}), HasSubstr("with " + std::to_string(code)));
  }
}

TEST(AscendDevice, AttentionChecksItsShapes) {
  const Simulator simulator("8.5");
  const auto device = make_device(ascend_options(simulator.home()));
  const auto pool = device->ops().make_kv_pool({1, 4, 128, 1, 64, 1, 64, 2});
  const auto stream = device->make_stream();
  Arena arena(device->memory());
  OpContext ctx{.arena = arena, .stream = stream.get()};
  const std::vector<int32_t> pages = {2};
  const auto refusal_of = [&](int64_t q_cols, int64_t out_cols, const Segment& segment) -> std::string {
    const Segment segments[] = {segment};
    try {
      device->ops().attention(ctx, {.q = arena.matrix(2, q_cols),
                                    .pool = pool.get(),
                                    .segments = segments,
                                    .block_table = {{.host = pages.data(), .size = 1}, 1, 1},
                                    .heads_q = 2,
                                    .scale = 1,
                                    .out = arena.matrix(2, out_cols)});
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal_of(64, 128, {0, 2, 0, 5, true}), HasSubstr("q cols = Hq * Dk"));
  EXPECT_THAT(refusal_of(128, 64, {0, 2, 0, 5, true}), HasSubstr("out cols = Hq * Dv"));
  EXPECT_THAT(refusal_of(128, 128, {0, 2, 1, 5, true}), HasSubstr("block_table_row"));
  EXPECT_THAT(refusal_of(128, 128, {0, 2, 0, 129, true}), HasSubstr("kv_len <= max_pages"));
}

// A toolkit folder that lacks one library, or has an empty one in its place.
TEST(AscendDevice, WhatIsMissingIsNamed) {
  const TempDir empty;
  EXPECT_THAT(refusal(ascend_options(empty.path().string())),
              AllOf(HasSubstr("no ACL runtime"), HasSubstr((empty.path() / "lib64/libascendcl.so").string()),
                    HasSubstr("libacl_rt.so")));

  const Simulator simulator("8.5");
  const auto without = [&](const std::vector<std::string>& names) {
    const TempDir folder;
    fs::create_directories(folder.path() / "lib64");
    for (const auto& entry : fs::directory_iterator(simulator.home() + "/lib64"))
      if (std::find(names.begin(), names.end(), entry.path().filename()) == names.end())
        fs::create_symlink(entry.path(), folder.path() / "lib64" / entry.path().filename());
    return refusal(ascend_options(folder.path().string()));
  };
  EXPECT_THAT(without({"libnnopbase.so"}), HasSubstr("no libnnopbase.so"));
  const TempDir hollow;  // a runtime with no function in it
  fs::create_directories(hollow.path() / "lib64");
  fs::create_symlink(simulator.home() + "/lib64/libopapi_cv.so", hollow.path() / "lib64/libascendcl.so");
  fs::create_symlink(simulator.home() + "/lib64/libnnopbase.so", hollow.path() / "lib64/libnnopbase.so");
  EXPECT_THAT(refusal(ascend_options(hollow.path().string())),
              HasSubstr("aclInit is in none of libascendcl.so, libacl_rt.so"));
  EXPECT_THAT(without({"libopapi_math.so", "libopapi_nn.so", "libopapi_cv.so", "libopapi_transformer.so",
                       "libopapi_oam.so", "libopapi_legacy.so"}),
              AllOf(HasSubstr("no operator library"), HasSubstr("libopapi_transformer.so"),
                    HasSubstr("lib64/libopapi.so")));
  EXPECT_THAT(without({"libopapi_math.so"}),
              AllOf(HasSubstr("lacks the operator aclnnInplaceCopy"), HasSubstr("libopapi_nn.so")));
}

TEST(AscendDevice, OppPathIsAskedForAtOnce) {
  const Simulator simulator("8.5");
  unsetenv("ASCEND_OPP_PATH");
  EXPECT_THAT(refusal(ascend_options(simulator.home())), HasSubstr("needs ASCEND_OPP_PATH"));
}

TEST(AscendDevice, WhatTheRuntimeRefusesIsTold) {
  const Simulator simulator("9.0");
  simulator.fail("aclInit", 0, 507899);
  EXPECT_THAT(refusal(ascend_options(simulator.home())),
              AllOf(HasSubstr("aclInit failed with 507899: aclInit: fails because"), HasSubstr("driver")));
  simulator.fail("aclrtGetDeviceCount", 0, 507899);
  EXPECT_THAT(
      refusal(ascend_options(simulator.home())),
      AllOf(HasSubstr("device 0 is not there"), HasSubstr("507899: aclrtGetDeviceCount: fails because")));
}

}  // namespace
}  // namespace longspan
