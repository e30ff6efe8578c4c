#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "device/op_test.h"

namespace longspan {
namespace {

constexpr float kNoKeys = -std::numeric_limits<float>::infinity();
constexpr int32_t kHeads = 3, kDim = 5;

/// N partials of some query rows and where the parts of T rows are.
struct MergeProblem {
  explicit MergeProblem(uint32_t seed, int64_t rows = 9, int64_t parts = 4, int64_t partial_rows = 20)
      : rows(rows), partials(partial_rows, kHeads * kDim, 3), lse(partial_rows, kHeads, 2) {
    partials.fill_random(seed);
    lse.fill_random(seed + 1, 10.0f);
    std::mt19937 random(seed + 2);
    for (int64_t i = 0; i < partial_rows; ++i)
      for (int32_t h = 0; h < kHeads; ++h)
        if (random() % 5 == 0) empty(i, h);
    for (int64_t i = 0; i < parts * rows; ++i)
      index.push_back(static_cast<int32_t>(random() % (partial_rows + 1)) - 1);
  }
  // What saw no key has nothing to say: its partial may be anything.
  void empty(int64_t row, int32_t head) {
    lse.at(row, head) = kNoKeys;
    for (int32_t d = 0; d < kDim; ++d) partials.at(row, head * kDim + d) = NAN;
  }
  MergeArgs args(OpRunner& runner, TestMatrix& out, TestMatrix& out_lse) {
    return {.partials = partials.view(),
            .lse_ln = lse.view(),
            .rows = runner.ops().upload(runner.ctx(), index),
            .heads_q = kHeads,
            .out = out.view(),
            .out_lse_ln = out_lse.view()};
  }

  int64_t rows;
  TestMatrix partials, lse;
  std::vector<int32_t> index;  // [parts, rows]
};

// The worst of n weights' roundings: each of a weight, a product and a sum.
double merge_bound(int64_t parts) {
  return 4 * static_cast<double>(parts) * kRoundF32 * 5;  // values of a normal distribution lie within 5
}

TEST(MergePartials, CpuAgreesWithTheReference) {
  OpRunner cpu(BackendCase{DType::kF32, "portable"});
  OpRunner reference = reference_runner(DType::kF32);
  for (const auto& [rows, parts] : {std::pair<int64_t, int64_t>{1, 1}, {9, 4}, {700, 3}, {0, 2}, {5, 0}}) {
    MergeProblem problem(static_cast<uint32_t>(rows), rows, parts, 50);
    TestMatrix out(rows, kHeads * kDim, 1), lse(rows, kHeads, 4), expected(rows, kHeads * kDim),
        expected_lse(rows, kHeads);
    cpu.ops().merge_partials(cpu.ctx(), problem.args(cpu, out, lse));
    reference.ops().merge_partials(reference.ctx(), problem.args(reference, expected, expected_lse));
    EXPECT_LE(max_difference(out, expected), merge_bound(parts));
    EXPECT_TRUE(out.gaps_intact() && lse.gaps_intact());
    for (int64_t t = 0; t < rows; ++t)
      for (int32_t h = 0; h < kHeads; ++h) {
        if (expected_lse.at(t, h) == kNoKeys)
          EXPECT_EQ(lse.at(t, h), kNoKeys);
        else
          EXPECT_NEAR(lse.at(t, h), expected_lse.at(t, h), 1e-5);
      }
  }
}

// The same sums in the same order: the same bits.
TEST(MoeCombine, AddsTheSumOfAllPartsInOrder) {
  for (const auto& [rows, parts] : {std::pair<int64_t, int64_t>{1, 1}, {9, 4}, {700, 3}, {0, 2}, {5, 0}}) {
    constexpr int64_t kCols = 515;
    std::mt19937 random(static_cast<uint32_t>(rows + parts));
    TestMatrix partials(50, kCols, 3);
    partials.fill_random(7);
    std::vector<int32_t> index;
    for (int64_t i = 0; i < parts * rows; ++i) index.push_back(static_cast<int32_t>(random() % 60) - 10);
    for (int32_t& row : index) row = std::max(row, -1);
    TestMatrix before(rows, kCols, 2);
    before.fill_random(8);
    TestMatrix expected = before;
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t c = 0; c < kCols; ++c) {
        std::optional<float> sum;
        for (int64_t i = 0; i < parts; ++i)
          if (const int32_t row = index[static_cast<size_t>(i * rows + t)]; row >= 0)
            sum = sum ? *sum + partials.at(row, c) : partials.at(row, c);
        if (sum) expected.at(t, c) += *sum;
      }
    for (const char* backend : {"cpu", "reference"}) {
      OpRunner runner(DeviceOptions{.backend = backend, .compute = DType::kF32});
      TestMatrix out = before;
      runner.ops().moe_combine(runner.ctx(), partials.view(), runner.ops().upload(runner.ctx(), index),
                               out.view());
      EXPECT_EQ(max_difference(out, expected), 0) << backend;
      EXPECT_TRUE(out.gaps_intact());
    }
  }
}

TEST(MoeCombine, RefusesRowsThatArentThere) {
  OpRunner runner(DeviceOptions{.backend = "cpu", .compute = DType::kF32});
  TestMatrix partials(3, 4), out(2, 4);
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{0, 3}, {-2, 0}, {0, 1, 2}})
    EXPECT_THROW(runner.ops().moe_combine(runner.ctx(), partials.view(),
                                          runner.ops().upload(runner.ctx(), rows), out.view()),
                 Error);
}

TEST(MergePartials, OnePartIsLeftAsItIsAndNoneGivesZero) {
  for (const char* backend : {"cpu", "reference"}) {
    OpRunner runner(DeviceOptions{.backend = backend, .compute = DType::kF32});
    MergeProblem problem(3, 2, 3, 4);
    for (int32_t h = 0; h < kHeads; ++h) {
      problem.empty(0, h);
      problem.lse.at(1, h) = 700;  // exp overflows
      for (int32_t d = 0; d < kDim; ++d) problem.partials.at(1, h * kDim + d) = 0.1f * static_cast<float>(d);
    }
    problem.index = {-1, 0, 1,
                     -1, 0, 0};  // row 0: nothing, row 1, an empty one; row 1: empty, nothing, empty
    TestMatrix out(2, kHeads * kDim), lse(2, kHeads);
    runner.ops().merge_partials(runner.ctx(), problem.args(runner, out, lse));
    for (int32_t c = 0; c < kHeads * kDim; ++c) {
      EXPECT_EQ(out.at(0, c), problem.partials.at(1, c));
      EXPECT_EQ(out.at(1, c), 0);
    }
    for (int32_t h = 0; h < kHeads; ++h) {
      EXPECT_EQ(lse.at(0, h), 700);
      EXPECT_EQ(lse.at(1, h), kNoKeys);
    }
  }
}

// Rounds of parts are merged into the first ones in place: the same as all at once, to rounding.
TEST(MergePartials, TheResultMayTakeTheFirstPartsPlace) {
  for (const char* backend : {"cpu", "reference"}) {
    OpRunner runner(DeviceOptions{.backend = backend, .compute = DType::kF32});
    constexpr int64_t kRows = 6;
    MergeProblem problem(8, kRows, 3, 3 * kRows);
    std::iota(problem.index.begin(), problem.index.end(), 0);  // part i of row t is row i * T + t
    TestMatrix whole(kRows, kHeads * kDim), whole_lse(kRows, kHeads);
    runner.ops().merge_partials(runner.ctx(), problem.args(runner, whole, whole_lse));

    for (int32_t part = 1; part < 3; ++part) {
      std::vector<int32_t> two(problem.index.begin(), problem.index.begin() + kRows);
      for (int32_t t = 0; t < kRows; ++t) two.push_back(part * static_cast<int32_t>(kRows) + t);
      Matrix out = problem.partials.view(), lse = problem.lse.view();
      out.rows = lse.rows = kRows;
      runner.ops().merge_partials(runner.ctx(), {.partials = problem.partials.view(),
                                                 .lse_ln = problem.lse.view(),
                                                 .rows = runner.ops().upload(runner.ctx(), two),
                                                 .heads_q = kHeads,
                                                 .out = out,
                                                 .out_lse_ln = lse});
    }
    for (int64_t t = 0; t < kRows; ++t)
      for (int32_t c = 0; c < kHeads * kDim; ++c)
        EXPECT_NEAR(problem.partials.at(t, c), whole.at(t, c), merge_bound(6));
  }
}

class MergedAttention : public testing::TestWithParam<BackendCase> {};
INSTANTIATE_TEST_SUITE_P(Cpu, MergedAttention, testing::ValuesIn(cpu_cases()), case_name);

// Attention over any parts of the keys, merged, is attention over all of them.
TEST_P(MergedAttention, IsAttentionOverAllKeys) {
  OpRunner runner(GetParam());
  constexpr int32_t kPage = 16, kPages = 9, kKeys = kPage * (kPages - 1), kRows = 7, kHeadsQ = 4,
                    kHeadsKv = 2, kSize = 32;
  Ops& ops = runner.ops();
  OpContext& ctx = runner.ctx();
  const auto pool = ops.make_kv_pool({1, kPages, kPage, kHeadsKv, kSize, kHeadsKv, kSize});
  TestMatrix k(kKeys, kHeadsKv * kSize), v(kKeys, kHeadsKv * kSize), q(kRows, kHeadsQ * kSize);
  k.fill_random(1);
  v.fill_random(2);
  q.fill_random(3, 2.0f);
  std::vector<int32_t> slots(kKeys);
  std::iota(slots.begin(), slots.end(), kPage);
  ops.kv_write(ctx, *pool, 0, k.view(), v.view(), ops.upload(ctx, slots));

  const auto attend = [&](const std::vector<int32_t>& pages, int32_t kv_len, Matrix out, Matrix lse) {
    const std::vector<Segment> segments = {{0, kRows, 0, kv_len, false}};
    ops.attention(ctx, {.q = q.view(),
                        .pool = pool.get(),
                        .layer = 0,
                        .segments = segments,
                        .block_table = {ops.upload(ctx, pages), 1, static_cast<int32_t>(pages.size())},
                        .heads_q = kHeadsQ,
                        .scale = 0.2f,
                        .out = out,
                        .lse_ln = lse});
  };
  TestMatrix whole(kRows, kHeadsQ * kSize), whole_lse(kRows, kHeadsQ);
  std::vector<int32_t> all(kPages - 1);
  std::iota(all.begin(), all.end(), 1);
  attend(all, kKeys - 3, whole.view(), whole_lse.view());

  // Two owners' pages, the last one of which is not full, and one that has none.
  TestMatrix partials(3 * kRows, kHeadsQ * kSize), lse(3 * kRows, kHeadsQ);
  const auto part = [&](TestMatrix& m, int64_t i) { return m.view().slice_rows(i * kRows, kRows); };
  attend({1, 4, 5, 8}, 4 * kPage - 3, part(partials, 0), part(lse, 0));
  attend({1}, 0, part(partials, 1), part(lse, 1));
  attend({2, 3, 6, 7}, 4 * kPage, part(partials, 2), part(lse, 2));
  std::vector<int32_t> index(3 * kRows);
  std::iota(index.begin(), index.end(), 0);
  TestMatrix out(kRows, kHeadsQ * kSize), out_lse(kRows, kHeadsQ);
  ops.merge_partials(ctx, {.partials = partials.view(),
                           .lse_ln = lse.view(),
                           .rows = ops.upload(ctx, index),
                           .heads_q = kHeadsQ,
                           .out = out.view(),
                           .out_lse_ln = out_lse.view()});
  // Both round the probabilities of each part to the pool's dtype; sums of 125 terms.
  const double round = GetParam().compute == DType::kBF16 ? 2 * kRoundBf16 : 125 * kRoundF32;
  EXPECT_LE(max_difference(out, whole), round * max_abs(v));
  EXPECT_LE(max_difference(out_lse, whole_lse), 1e-4);
}

TEST(MergePartials, RowsLeftOutAreNotWritten) {
  for (const char* backend : {"cpu", "reference"}) {
    OpRunner runner(DeviceOptions{.backend = backend, .compute = DType::kF32});
    Ops& ops = runner.ops();
    OpContext& ctx = runner.ctx();
    const auto pool = ops.make_kv_pool({1, 3, 4, 1, 8, 1, 8});
    TestMatrix k(3, 8), v(3, 8), read_k(2, 8), read_v(2, 8);
    k.fill_random(1);
    v.fill_random(2);
    ops.kv_write(ctx, *pool, 0, k.view(), v.view(), ops.upload(ctx, std::vector<int32_t>{5, -1, 4}));
    ops.kv_read(ctx, *pool, 0, ops.upload(ctx, std::vector<int32_t>{4, 5}), read_k.view(), read_v.view());
    for (int64_t d = 0; d < 8; ++d) {
      EXPECT_EQ(read_k.at(0, d), k.at(2, d));
      EXPECT_EQ(read_v.at(1, d), v.at(0, d));
    }
    EXPECT_THROW(
        ops.kv_write(ctx, *pool, 0, k.view(), v.view(), ops.upload(ctx, std::vector<int32_t>{5, -2, 4})),
        Error);
    EXPECT_THROW(ops.kv_read(ctx, *pool, 0, ops.upload(ctx, std::vector<int32_t>{4, -1}), read_k.view(),
                             read_v.view()),
                 Error);
  }
}

TEST(MergePartials, ShapesThatDisagreeAreNamed) {
  OpRunner runner(BackendCase{DType::kF32, "portable"});
  const auto problem_with = [&](auto change) {
    MergeProblem problem(1);
    TestMatrix out(9, kHeads * kDim), lse(9, kHeads);
    MergeArgs args = problem.args(runner, out, lse);
    change(args);
    try {
      runner.ops().merge_partials(runner.ctx(), args);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(problem_with([](MergeArgs&) {}), "");
  EXPECT_NE(problem_with([](MergeArgs& a) { a.heads_q = 2; }), "");
  EXPECT_NE(problem_with([](MergeArgs& a) { a.lse_ln.rows = 3; }), "");
  EXPECT_NE(problem_with([](MergeArgs& a) { a.partials.rows = 3; }), "");
  EXPECT_NE(problem_with([](MergeArgs& a) { a.rows.size = 10; }), "");
  EXPECT_NE(problem_with([](MergeArgs& a) { a.out_lse_ln.cols = 1; }), "");
}

}  // namespace
}  // namespace longspan
