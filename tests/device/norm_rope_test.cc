#include <algorithm>
#include <functional>
#include <limits>

#include "device/op_test.h"

namespace longspan {
namespace {

IndexArray index(const std::vector<int32_t>& values) {
  return {values.data(), values.data(), static_cast<int64_t>(values.size())};
}

/// Runs an op on the CPU and on the reference over matrices that start equal, and compares.
class RowOpTest : public testing::TestWithParam<BackendCase> {
 protected:
  using Call = std::function<void(Ops&, OpContext&, TestMatrix& out)>;
  void expect_close(const TestMatrix& start, double tolerance, const Call& call) {
    TestMatrix actual = start, expected = start;
    OpRunner cpu(GetParam());
    OpRunner reference = reference_runner(GetParam().compute);
    call(cpu.ops(), cpu.ctx(), actual);
    call(reference.ops(), reference.ctx(), expected);
    EXPECT_LE(max_difference(actual, expected), tolerance * std::max(1.0, max_abs(expected)));
    EXPECT_TRUE(actual.gaps_intact());
  }
};

constexpr int64_t kRows[] = {0, 1, 7, 33, 300};

TEST_P(RowOpTest, RmsNorm) {
  for (int64_t rows : kRows) {
    for (int64_t hidden : {1, 16, 47, 64, 2048}) {
      TestMatrix x(rows, hidden, 6), weight(1, hidden);
      x.fill_random(1, 3.0f);
      weight.fill_random(2);
      const double tolerance = static_cast<double>(hidden + 8) * kRoundF32;  // the sum of squares dominates
      expect_close(TestMatrix(rows, hidden, 2), tolerance, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.rms_norm(ctx, x.view(), weight.view().f32(0), 1e-6f, out.view());
      });
      expect_close(x, tolerance, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.rms_norm(ctx, out.view(), weight.view().f32(0), 1e-6f, out.view());
      });
    }
  }
}

TEST_P(RowOpTest, QkNormRope) {
  for (int32_t dim : {2, 16, 40, 64, 128}) {
    const int32_t heads = 3;
    for (int64_t rows : kRows) {
      std::vector<int32_t> positions(static_cast<size_t>(rows));
      for (size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<int32_t>(t * 37 % 32768);
      std::vector<float> inv_freq;
      for (int32_t i = 0; i < dim / 2; ++i)
        inv_freq.push_back(std::pow(1e6f, -2.0f * static_cast<float>(i) / static_cast<float>(dim)));
      TestMatrix x(rows, heads * dim, 11), weight(1, dim), table(rows, dim, 4);
      x.fill_random(3, 2.0f);
      weight.fill_random(4);
      expect_close(table, 0, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.rope_table(ctx, index(positions), inv_freq, 1.25f, out.view());
      });
      OpRunner reference = reference_runner(DType::kF32);
      reference.ops().rope_table(reference.ctx(), index(positions), inv_freq, 1.25f, table.view());
      const double tolerance = static_cast<double>(dim + 12) * kRoundF32;
      for (bool norm : {false, true}) {
        for (bool rotate : {false, true}) {
          expect_close(x, tolerance, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
            ops.qk_norm_rope(ctx, {.x = out.view(),
                                   .heads = heads,
                                   .head_dim = dim,
                                   .norm_weight = norm ? weight.view().f32(0) : nullptr,
                                   .eps = 1e-5f,
                                   .cos_sin = rotate ? table.view() : Matrix{}});
          });
        }
      }
    }
  }
}

TEST_P(RowOpTest, Swiglu) {
  for (int64_t rows : kRows) {
    for (int64_t width : {1, 15, 64, 100}) {
      TestMatrix gate_up(rows, 2 * width, 3);
      gate_up.fill_random(5, 6.0f);
      if (rows > 2) {  // far ends of the exponential
        gate_up.at(0, 0) = 200.0f;
        gate_up.at(1, 0) = -200.0f;
        gate_up.at(2, 0) = -88.5f;
      }
      expect_close(TestMatrix(rows, width, 1), 8 * kRoundF32, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.swiglu(ctx, gate_up.view(), out.view());
      });
    }
  }
}

TEST_P(RowOpTest, SwigluKeepsNan) {
  TestMatrix gate_up(1, 40), out(1, 20);
  gate_up.fill_random(1);
  gate_up.at(0, 3) = std::numeric_limits<float>::quiet_NaN();
  OpRunner cpu(GetParam());
  cpu.ops().swiglu(cpu.ctx(), gate_up.view(), out.view());
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(out.at(0, i)), i == 3);
}

TEST_P(RowOpTest, AddGated) {
  for (int64_t rows : kRows) {
    TestMatrix gate(rows, 1, 2), y(rows, 50, 1), start(rows, 50, 3);
    gate.fill_random(1, 4.0f);
    y.fill_random(2);
    start.fill_random(3);
    expect_close(start, 4 * kRoundF32, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
      ops.add_gated(ctx, gate.view(), y.view(), out.view());
    });
  }
}

TEST_P(RowOpTest, EmbeddingAndGatherRowsCopy) {
  for (DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
    const TestWeight table(20, 33, stored, 1, 1.0f);
    const std::vector<int32_t> ids = {19, 0, 7, 7, 3};
    expect_close(TestMatrix(5, 33, 2), 0, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
      ops.embedding(ctx, index(ids), *ops.make_embedding(table.view()), out.view());
    });
    OpRunner cpu(GetParam());
    TestMatrix out(5, 33);
    cpu.ops().embedding(cpu.ctx(), index(ids), *cpu.ops().make_embedding(table.view()), out.view());
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t i = 0; i < 33; ++i)
        EXPECT_EQ(out.at(t, i), table.view().at(ids[static_cast<size_t>(t)], i));
  }
  TestMatrix x(9, 21, 4);
  x.fill_random(8);
  const std::vector<int32_t> rows = {8, 8, 0, 4};
  expect_close(TestMatrix(4, 21, 1), 0, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
    ops.gather_rows(ctx, x.view(), index(rows), out.view());
  });
}

TEST_P(RowOpTest, ConvertRoundsToNearestEven) {
  OpRunner cpu(GetParam());
  TestMatrix x(13, 37, 2), back(13, 37, 5);
  x.fill_random(1);
  x.at(0, 0) = std::numeric_limits<float>::infinity();
  x.at(0, 1) = 1.00390625f;  // half way: down to the even 1.0
  x.at(0, 2) = 1.01171875f;  // half way: up to the even 1.015625
  x.at(0, 3) = -std::numeric_limits<float>::denorm_min();
  std::vector<uint16_t> half(13 * 40);
  const Matrix wire{half.data(), DType::kBF16, 13, 37, 40};
  cpu.ops().convert(cpu.ctx(), x.view(), wire);
  cpu.ops().convert(cpu.ctx(), wire, back.view());
  EXPECT_EQ(back.at(0, 1), 1.0f);
  EXPECT_EQ(back.at(0, 2), 1.015625f);
  EXPECT_TRUE(back.gaps_intact());
  for (int64_t t = 0; t < 13; ++t)
    for (int64_t i = 0; i < 37; ++i) EXPECT_EQ(back.at(t, i), bf16_to_f32(f32_to_bf16(x.at(t, i))));
  x.at(1, 1) = std::numeric_limits<float>::quiet_NaN();
  cpu.ops().convert(cpu.ctx(), x.view(), wire);
  EXPECT_TRUE(std::isnan(bf16_to_f32(half[41])));
}

TEST_P(RowOpTest, LogSoftmaxAt) {
  for (int64_t rows : kRows) {
    for (int64_t vocabulary : {1, 17, 1000, 5003}) {
      TestMatrix logits(rows, vocabulary, 7);
      logits.fill_random(3, 5.0f);
      std::vector<int32_t> targets;
      for (int64_t i = 0; i < rows; ++i) targets.push_back(static_cast<int32_t>(i * 31 % vocabulary));
      // exp within 2 ulp a term, lanes of 64 terms in f32.
      expect_close(TestMatrix(rows, 1, 1), 80 * kRoundF32, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.log_softmax_at(ctx, logits.view(), index(targets), out.view());
      });
    }
  }
}

TEST_P(RowOpTest, LogSumExp) {
  for (int64_t rows : kRows) {
    for (int64_t vocabulary : {1, 17, 5003}) {
      TestMatrix logits(rows, vocabulary, 7);
      logits.fill_random(3, 5.0f);
      expect_close(TestMatrix(rows, 1, 1), 80 * kRoundF32, [&](Ops& ops, OpContext& ctx, TestMatrix& out) {
        ops.log_sum_exp(ctx, logits.view(), out.view());
      });
    }
  }
}

TEST_P(RowOpTest, AddAndClear) {
  TestMatrix y(9, 37, 3), sum(9, 37, 5);
  y.fill_random(1);
  sum.fill_random(2);
  const TestMatrix before = sum;
  OpRunner cpu(GetParam());
  cpu.ops().add(cpu.ctx(), y.view(), sum.view());
  for (int64_t t = 0; t < 9; ++t)
    for (int64_t i = 0; i < 37; ++i) EXPECT_EQ(sum.at(t, i), before.at(t, i) + y.at(t, i));
  cpu.ops().clear(cpu.ctx(), sum.view());
  EXPECT_EQ(max_abs(sum), 0);
  EXPECT_TRUE(sum.gaps_intact());
}

TEST_P(RowOpTest, UploadAndDownloadCopy) {
  OpRunner cpu(GetParam());
  const std::vector<int32_t> values = {5, -1, 7};
  const IndexArray uploaded = cpu.ops().upload(cpu.ctx(), values);
  ASSERT_EQ(uploaded.size, 3);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), uploaded.host));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), uploaded.device));
  EXPECT_EQ(cpu.ops().upload(cpu.ctx(), {}).size, 0);
  TestMatrix x(3, 5, 2);
  x.fill_random(1);
  std::vector<float> dense(15);
  cpu.ops().download(cpu.ctx(), x.view(), dense);
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(dense[static_cast<size_t>(t * 5 + i)], x.at(t, i));
}

INSTANTIATE_TEST_SUITE_P(Cpu, RowOpTest, testing::ValuesIn(cpu_cases()), case_name);

}  // namespace
}  // namespace longspan
