#include <array>

#include "device/op_test.h"

namespace longspan {
namespace {

/// int8 on every instruction set. Integer sums are exact and the scaling is the contract's, so a product
/// equals the reference to the bit.
class Int8Test : public testing::TestWithParam<Isa> {
 protected:
  OpRunner cpu(int threads = 2) const {
    return OpRunner(
        {.backend = "cpu", .compute = DType::kBF16, .int8 = true, .isa = std::string(to_string(GetParam()))},
        threads);
  }
};

OpRunner int8_reference() {
  return OpRunner({.backend = "reference", .compute = DType::kBF16, .int8 = true});
}

void expect_same_bits(const TestMatrix& actual, const TestMatrix& expected) {
  for (int64_t t = 0; t < actual.rows(); ++t)
    for (int64_t o = 0; o < actual.cols(); ++o)
      ASSERT_EQ(std::bit_cast<uint32_t>(actual.at(t, o)), std::bit_cast<uint32_t>(expected.at(t, o)))
          << "row " << t << " column " << o << ": " << actual.at(t, o) << ", not " << expected.at(t, o);
}

TEST_P(Int8Test, LinearEqualsReferenceToTheBit) {
  const std::array<std::array<int64_t, 3>, 9> shapes = {{{1, 32, 64},
                                                         {1, 97, 33},
                                                         {2, 64, 1},
                                                         {7, 40, 100},
                                                         {33, 17, 5},
                                                         {129, 1101, 70},
                                                         {64, 258, 130},
                                                         {300, 1, 1},
                                                         {5, 1024, 128}}};
  for (const auto& [rows, in, out] : shapes) {
    for (DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(testing::Message() << rows << "x" << in << "x" << out);
      const TestWeight weight(out, in, stored, 3, 0.5f);
      const WeightView view = weight.view();
      const std::vector<float> bias(static_cast<size_t>(out), 1.25f);
      const WeightView bias_view{bias.data(), DType::kF32, 1, out, out};
      TestMatrix x(rows, in, 3), actual(rows, out, 5), expected(rows, out);
      x.fill_random(4);
      for (int64_t i = 0; i < in && rows > 2; ++i) x.at(1, i) = 0;  // a row of zeros gives the bias
      OpRunner runner = cpu(), reference = int8_reference();
      const auto packed = runner.ops().pack_linear({&view, 1}, {&bias_view, 1}, LinearPrecision::kCompute);
      runner.ops().linear(runner.ctx(), x.view(), *packed, actual.view(), false);
      reference.ops().linear(
          reference.ctx(), x.view(),
          *reference.ops().pack_linear({&view, 1}, {&bias_view, 1}, LinearPrecision::kCompute),
          expected.view(), false);
      EXPECT_TRUE(actual.gaps_intact());
      expect_same_bits(actual, expected);
      for (int64_t o = 0; o < out && rows > 2; ++o) EXPECT_EQ(actual.at(1, o), 1.25f);
    }
  }
}

TEST_P(Int8Test, WhatIsNotFiniteStaysVisible) {
  const int64_t rows = 40, in = 64, out = 70;
  const TestWeight good(out, in, DType::kF32, 3, 0.5f);
  std::vector<float> weight;
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      weight.push_back(o == 5 && i == 9 ? INFINITY : good.value(o, i, DType::kF32));
  const WeightView view{weight.data(), DType::kF32, out, in, in};
  TestMatrix x(rows, in), actual(rows, out), expected(rows, out);
  x.fill_random(4);
  x.at(3, 60) = NAN;
  x.at(33, 0) = -INFINITY;
  OpRunner runner = cpu(), reference = int8_reference();
  for (const auto& [r, y] : {std::pair{&runner, &actual}, std::pair{&reference, &expected}})
    r->ops().linear(r->ctx(), x.view(), *r->ops().pack_linear({&view, 1}, {}, LinearPrecision::kCompute),
                    y->view(), false);
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t o = 0; o < out; ++o) {
      const bool lost = t == 3 || t == 33 || o == 5;
      EXPECT_EQ(std::isnan(actual.at(t, o)), lost) << t << " " << o;
      EXPECT_EQ(std::isnan(expected.at(t, o)), lost) << t << " " << o;
      if (!lost) {
        EXPECT_EQ(actual.at(t, o), expected.at(t, o));
      }
    }
}

/// Where 16-bit sums of pairs would saturate: every product is 127 * 127 of one sign.
TEST_P(Int8Test, ExtremesDoNotSaturate) {
  const int64_t in = 4096;
  for (float sign : {1.0f, -1.0f}) {
    const std::vector<float> weight(static_cast<size_t>(in), sign * 3e4f);
    const WeightView view{weight.data(), DType::kF32, 1, in, in};
    TestMatrix x(3, in), y(3, 1);
    for (int64_t t = 0; t < 3; ++t)
      for (int64_t i = 0; i < in; ++i) x.at(t, i) = t == 1 ? -2e5f : 2e5f;
    OpRunner runner = cpu();
    runner.ops().linear(runner.ctx(), x.view(),
                        *runner.ops().pack_linear({&view, 1}, {}, LinearPrecision::kCompute), y.view(),
                        false);
    const double expected = sign * 3e4 * 2e5 * static_cast<double>(in);
    for (int64_t t = 0; t < 3; ++t)  // roundings: two scales, their product, the sum, the result
      EXPECT_NEAR(y.at(t, 0), t == 1 ? -expected : expected, 5 * kRoundF32 * std::abs(expected));
  }
}

TEST_P(Int8Test, OtherPrecisionsAreNotQuantized) {
  const TestWeight weight(70, 130, DType::kBF16, 5, 0.5f);
  const WeightView view = weight.view();
  TestMatrix x(9, 130);
  x.fill_random(6);
  for (LinearPrecision precision : {LinearPrecision::kUnquantized, LinearPrecision::kF32}) {
    TestMatrix actual(9, 70), expected(9, 70);
    OpRunner runner = cpu();
    OpRunner plain(BackendCase{DType::kBF16, std::string(to_string(GetParam()))});
    const auto packed = runner.ops().pack_linear({&view, 1}, {}, precision);
    runner.ops().linear(runner.ctx(), x.view(), *packed, actual.view(), false);
    plain.ops().linear(plain.ctx(), x.view(), *plain.ops().pack_linear({&view, 1}, {}, precision),
                       expected.view(), false);
    expect_same_bits(actual, expected);
  }
}

struct Experts {
  static constexpr int64_t kRows = 200, kHidden = 100, kWidth = 75, kCount = 3;
  TestMatrix x{kRows, kHidden};
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<TestWeight> sources;

  Experts() : ids(kRows * 2), weights(kRows * 2, 0.5f) {
    x.fill_random(7);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((i / 2 + i % 2) % kCount);
    for (uint32_t e = 0; e < kCount; ++e) {
      sources.emplace_back(kWidth, kHidden, DType::kBF16, 10 + e, 0.1f);
      sources.emplace_back(kWidth, kHidden, DType::kBF16, 20 + e, 0.1f);
      sources.emplace_back(kHidden, kWidth, DType::kBF16, 30 + e, 0.1f);
    }
  }
  void run(OpRunner& runner, TestMatrix& out, int64_t begin, int64_t rows) {
    std::vector<ExpertSource> experts;
    for (size_t e = 0; e < kCount; ++e)
      experts.push_back({sources[3 * e].view(), sources[3 * e + 1].view(), sources[3 * e + 2].view()});
    const auto packed = runner.ops().pack_experts(experts, 0, nullptr);
    EXPECT_EQ(packed->bytes, kCount * runner.ops().packed_expert_bytes(kHidden, kWidth));
    const Matrix i{ids.data(), DType::kI32, kRows, 2, 2}, w{weights.data(), DType::kF32, kRows, 2, 2};
    for (int64_t t = begin; t < begin + rows; ++t)
      for (int64_t c = 0; c < kHidden; ++c) out.at(t, c) = 0;
    runner.ops().moe_experts(runner.ctx(), x.view().slice_rows(begin, rows), i.slice_rows(begin, rows),
                             w.slice_rows(begin, rows), *packed, out.view().slice_rows(begin, rows));
  }
};

/// exp differs by a few ulp, which may move an activated element by one step of its row's scale, and the
/// scale by as much. A step is at most max|activated| / 127, each meets a weight of `down`.
TEST_P(Int8Test, ExpertsEqualReferenceWithinOneStep) {
  Experts c;
  TestMatrix actual(Experts::kRows, Experts::kHidden), expected(Experts::kRows, Experts::kHidden);
  OpRunner runner = cpu(), reference = int8_reference();
  c.run(runner, actual, 0, Experts::kRows);
  c.run(reference, expected, 0, Experts::kRows);
  for (int64_t t = 0; t < Experts::kRows; ++t) {
    std::vector<double> bound(Experts::kHidden);
    for (size_t j = 0; j < 2; ++j) {
      const auto e = static_cast<size_t>(c.ids[static_cast<size_t>(2 * t) + j]);
      double most = 0;
      for (int64_t i = 0; i < Experts::kWidth; ++i) {
        double gate = 0, up = 0;
        for (int64_t h = 0; h < Experts::kHidden; ++h) {
          gate += double{c.x.at(t, h)} * c.sources[3 * e].view().at(i, h);
          up += double{c.x.at(t, h)} * c.sources[3 * e + 1].view().at(i, h);
        }
        most = std::max(most, std::abs(gate / (1 + std::exp(-gate)) * up));
      }
      for (int64_t o = 0; o < Experts::kHidden; ++o) {
        double sum = 0;
        for (int64_t i = 0; i < Experts::kWidth; ++i)
          sum += std::abs(double{c.sources[3 * e + 2].view().at(o, i)});
        bound[static_cast<size_t>(o)] += 0.5 * sum * most / 127;
      }
    }
    for (int64_t o = 0; o < Experts::kHidden; ++o)
      ASSERT_NEAR(actual.at(t, o), expected.at(t, o), bound[static_cast<size_t>(o)]) << t << " " << o;
  }
}

TEST_P(Int8Test, RowsOfExpertsAreIndependentToTheBit) {
  Experts c;
  TestMatrix whole(Experts::kRows, Experts::kHidden), parts(Experts::kRows, Experts::kHidden);
  OpRunner runner = cpu(2), one = cpu(1);
  c.run(runner, whole, 0, Experts::kRows);
  for (int64_t begin = 0, rows = 1; begin < Experts::kRows; begin += rows, rows = rows * 2 + 1)
    c.run(one, parts, begin, std::min(rows, Experts::kRows - begin));
  expect_same_bits(parts, whole);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Int8Test, testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(to_string(info.param)); });

}  // namespace
}  // namespace longspan
