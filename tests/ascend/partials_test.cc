// Parts of attention on the ascend device: merged as on the reference, however many there are, and tried at
// the start.

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <cmath>
#include <random>

#include "ascend/simulator.h"
#include "device/device.h"

namespace longspan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::Simulator;

constexpr int32_t kHeads = 2, kDim = 16;
constexpr int64_t kCols = kHeads * kDim;

std::unique_ptr<Device> open(const Simulator& simulator) {
  DeviceOptions options{.backend = "ascend", .compute = DType::kBF16};
  options.ascend.home = simulator.home();
  return make_device(options);
}

/// Partials of N rows, and which of them are parts of each of T rows.
struct Problem {
  Problem(int64_t parts, int64_t rows, uint32_t seed) : rows(rows), partial_rows(parts * rows) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < partial_rows * (kCols + kHeads); ++i) values.push_back(normal(random));
    for (int32_t i = 0; i < partial_rows;
         ++i) {  // of each part but the first a row lacks it; part 2 nobody has
      const int64_t part = i / rows, row = i % rows;
      index.push_back(part == 2 || (part > 0 && row == part % rows) ? -1 : i);
    }
  }
  int64_t rows, partial_rows;
  std::vector<float> values;   // [N, Hq * Dv + Hq], results before log-sum-exps
  std::vector<int32_t> index;  // [parts, T]
};

/// What a device makes of it: [T, Hq * Dv + Hq]. `in_place`: over the first T partials.
std::vector<float> merge(Device& device, const Problem& problem, bool in_place) {
  Ops& ops = device.ops();
  Arena arena(device.memory());
  const auto stream = device.make_stream();
  OpContext ctx{.arena = arena, .stream = stream.get()};
  const int64_t cols = kCols + kHeads;
  const auto table =
      ops.make_embedding({problem.values.data(), DType::kF32, problem.partial_rows, cols, cols});
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < problem.partial_rows; ++i) ids.push_back(i);
  const Matrix partials = arena.matrix(problem.partial_rows, cols);
  ops.embedding(ctx, ops.upload(ctx, ids), *table, partials);
  const Matrix out = in_place ? partials.slice_rows(0, problem.rows) : arena.matrix(problem.rows, cols);
  ops.merge_partials(ctx, {.partials = partials.slice_cols(0, kCols),
                           .lse_ln = partials.slice_cols(kCols, kHeads),
                           .rows = ops.upload(ctx, problem.index),
                           .heads_q = kHeads,
                           .out = out.slice_cols(0, kCols),
                           .out_lse_ln = out.slice_cols(kCols, kHeads)});
  std::vector<float> result(static_cast<size_t>(problem.rows * cols));
  ops.download(ctx, out, result);
  return result;
}

TEST(AscendPartials, AreMergedAsOnTheReference) {
  const Simulator simulator("8.5");
  {
    const auto device = open(simulator), reference = make_device({.backend = "reference"});
    for (const int64_t parts : {1, 2, 16, 17, 18, 33, 40}) {
      for (const bool in_place : {false, true}) {
        const Problem problem(parts, 5, static_cast<uint32_t>(parts));
        const std::vector<float> expected = merge(*reference, problem, in_place),
                                 merged = merge(*device, problem, in_place);
        for (size_t i = 0; i < expected.size(); ++i)
          ASSERT_NEAR(merged[i], expected[i], 4e-6 * static_cast<double>(parts)) << parts << " parts, " << i;
      }
    }
  }
  EXPECT_EQ(simulator.leaks(), "");
}

// As many launches as it takes, and none for a part that nobody has.
TEST(AscendPartials, SixteenPartsTakeOneLaunch) {
  const Simulator simulator("8.5");
  const auto device = open(simulator);
  for (const auto& [parts, launches] : {std::pair{1, 0}, {2, 1}, {17, 1}, {18, 2}, {32, 2}, {33, 3}}) {
    simulator.reset_counts();
    merge(*device, Problem(parts, 3, 1), false);
    EXPECT_EQ(simulator.count("launch:aclnnAttentionUpdate"), static_cast<uint64_t>(launches)) << parts;
  }
}

TEST(AscendPartials, ARowWithoutPartsIsRefused) {
  const Simulator simulator("8.5");
  const auto device = open(simulator);
  Problem problem(2, 3, 1);
  problem.index[1] = problem.index[4] = -1;
  try {
    merge(*device, problem, false);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("every row has a part"));
  }
}

constexpr KvShape kPool{1, 4, 128, 2, 64, 2, 64, 4};

std::string refusal(Device& device) {
  try {
    device.ops().check_partials(kPool);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotSupported) << error.what();
    return error.what();
  }
  return "accepted";
}

// A release without the operator, and a device whose results are wrong.
TEST(AscendPartials, AreTriedAtTheStart) {
  const Simulator old("8.3");
  EXPECT_THAT(refusal(*open(old)),
              AllOf(HasSubstr("--kv shard"), HasSubstr("aclnnAttentionUpdate"), HasSubstr("(8.3) lacks"),
                    HasSubstr("libopapi.so"), HasSubstr("use --kv replicate")));
  for (const char* release : {"8.5", "9.0"}) {
    const Simulator simulator(release);
    {
      const auto device = open(simulator);
      EXPECT_EQ(refusal(*device), "accepted");
      for (const auto& [nth, what] : {std::pair{1, "attention that is not causal"},
                                      {2, "attention that is not"},
                                      {3, "attention that is not"}}) {
        simulator.fault("aclnnFusedInferAttentionScoreV3 nth " + std::to_string(nth) + " garbage");
        EXPECT_THAT(refusal(*device), AllOf(HasSubstr(what), HasSubstr("is right; use --kv replicate")));
        simulator.clear_faults();
      }
      simulator.fault("aclnnAttentionUpdate garbage");
      EXPECT_THAT(refusal(*device), HasSubstr("--kv shard needs aclnnAttentionUpdate, which gives"));
      simulator.clear_faults();
      EXPECT_EQ(refusal(*device), "accepted");
    }
    EXPECT_EQ(simulator.leaks(), "");
  }
}

}  // namespace
}  // namespace longspan
