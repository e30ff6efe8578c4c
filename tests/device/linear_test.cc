#include <bit>
#include <cstring>
#include <latch>
#include <thread>

#include "device/op_test.h"

namespace longspan {
namespace {

struct LinearShape {
  int64_t rows, in, out;
  bool bias, accumulate, sliced;
};

std::ostream& operator<<(std::ostream& os, const LinearShape& s) {
  return os << "T " << s.rows << " in " << s.in << " out " << s.out << (s.bias ? " bias" : "")
            << (s.accumulate ? " accumulate" : "") << (s.sliced ? " sliced" : "");
}

const LinearShape kLinearShapes[] = {
    {0, 32, 64, false, false, false},   {1, 32, 64, false, false, false},
    {1, 96, 33, true, false, true},     {2, 64, 1, false, false, false},
    {7, 40, 100, true, true, true},     {7, 256, 320, false, true, false},
    {33, 17, 5, true, false, false},    {33, 600, 130, false, true, true},
    {64, 64, 64, true, true, false},    {128, 32, 192, false, false, true},
    {129, 1100, 70, true, true, false}, {300, 96, 257, false, false, true},
    {300, 1, 1, true, true, true},      {5, 1024, 128, false, true, false},
};

class LinearTest : public testing::TestWithParam<BackendCase> {};

struct Inputs {
  TestMatrix x, out;
  TestWeight weight;
  std::vector<float> bias;
};

Inputs make_inputs(const LinearShape& s, DType stored) {
  const auto seed = static_cast<uint32_t>(s.rows * 31 + s.in * 7 + s.out);
  const int64_t gap = s.sliced ? 37 : 0;
  Inputs in{.x = TestMatrix(s.rows, s.in, gap),
            .out = TestMatrix(s.rows, s.out, gap),
            .weight = TestWeight(s.out, s.in, stored, seed, 0.5f),
            .bias = {}};
  in.x.fill_random(seed + 1);
  in.out.fill_random(seed + 2);
  for (int64_t o = 0; s.bias && o < s.out; ++o) in.bias.push_back(static_cast<float>(o % 7) - 3.25f);
  return in;
}

std::unique_ptr<LinearWeight> pack(Ops& ops, const Inputs& in,
                                   LinearPrecision precision = LinearPrecision::kCompute) {
  const WeightView weight = in.weight.view();
  const auto n = static_cast<int64_t>(in.bias.size());
  const WeightView bias = {in.bias.empty() ? nullptr : in.bias.data(), DType::kF32, 1, n, n};
  return ops.pack_linear({&weight, 1}, {&bias, 1}, precision);
}

/// Bound of the error of element (t, o): roundings of the activations, and of each product and sum.
double product_bound(const Inputs& in, const TestMatrix& before, int64_t t, int64_t o, DType compute,
                     double activation_round) {
  double magnitude = 0;
  for (int64_t i = 0; i < in.x.cols(); ++i)
    magnitude += std::abs(double{in.x.at(t, i)} * double{in.weight.value(o, i, compute)});
  const double rest =
      std::abs(before.at(t, o)) + (in.bias.empty() ? 0.0 : std::abs(in.bias[static_cast<size_t>(o)]));
  const double sums = 2 * static_cast<double>(in.x.cols() + 4) * kRoundF32;  // both sides sum in f32
  return (activation_round + sums) * magnitude + sums * rest;
}

TEST_P(LinearTest, EqualsReferenceWithinRounding) {
  for (const LinearShape& s : kLinearShapes) {
    SCOPED_TRACE(testing::PrintToString(s.rows) + "x" + testing::PrintToString(s.in) + "x" +
                 testing::PrintToString(s.out));
    for (DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
      Inputs in = make_inputs(s, stored);
      const TestMatrix before = in.out;
      OpRunner cpu(GetParam());
      OpRunner reference = reference_runner(GetParam().compute);
      cpu.ops().linear(cpu.ctx(), in.x.view(), *pack(cpu.ops(), in), in.out.view(), s.accumulate);
      TestMatrix expected = before;
      reference.ops().linear(reference.ctx(), in.x.view(), *pack(reference.ops(), in), expected.view(),
                             s.accumulate);
      EXPECT_TRUE(in.out.gaps_intact());
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t o = 0; o < s.out; ++o)
          ASSERT_NEAR(in.out.at(t, o), expected.at(t, o),
                      product_bound(in, before, t, o, GetParam().compute, GetParam().activation_round()))
              << s << " row " << t << " column " << o;
    }
  }
}

TEST_P(LinearTest, F32PrecisionIsNotRoundedToTheComputeDtype) {
  const LinearShape s{19, 130, 9, false, false, false};
  Inputs in = make_inputs(s, DType::kF32);
  const TestMatrix before = in.out;
  OpRunner cpu(GetParam());
  cpu.ops().linear(cpu.ctx(), in.x.view(), *pack(cpu.ops(), in, LinearPrecision::kF32), in.out.view(), false);
  for (int64_t t = 0; t < s.rows; ++t) {
    for (int64_t o = 0; o < s.out; ++o) {
      double expected = 0;
      for (int64_t i = 0; i < s.in; ++i)
        expected += double{in.x.at(t, i)} * double{in.weight.view().at(o, i)};
      ASSERT_NEAR(in.out.at(t, o), expected, product_bound(in, before, t, o, DType::kF32, 0));
    }
  }
}

TEST_P(LinearTest, StackedWeightsAreOneMultiply) {
  OpRunner cpu(GetParam());
  const TestWeight q(70, 48, DType::kBF16, 1, 0.3f), k(9, 48, DType::kF32, 2, 0.3f);
  const std::vector<float> bias(9, 2.5f);
  const WeightView weights[] = {q.view(), k.view().slice_rows(0, 9)};
  const WeightView biases[] = {{}, {bias.data(), DType::kF32, 1, 9, 9}};
  const auto stacked = cpu.ops().pack_linear(weights, biases, LinearPrecision::kCompute);
  EXPECT_EQ(stacked->out_features, 79);
  EXPECT_EQ(stacked->in_features, 48);
  const auto alone_q = cpu.ops().pack_linear({&weights[0], 1}, {}, LinearPrecision::kCompute);
  const auto alone_k = cpu.ops().pack_linear({&weights[1], 1}, {&biases[1], 1}, LinearPrecision::kCompute);
  TestMatrix x(11, 48), both(11, 79), parts(11, 79);
  x.fill_random(5);
  cpu.ops().linear(cpu.ctx(), x.view(), *stacked, both.view(), false);
  cpu.ops().linear(cpu.ctx(), x.view(), *alone_q, parts.view().slice_cols(0, 70), false);
  cpu.ops().linear(cpu.ctx(), x.view(), *alone_k, parts.view().slice_cols(70, 9), false);
  EXPECT_EQ(max_difference(both, parts), 0);
}

TEST_P(LinearTest, ReportsResidentBytes) {
  OpRunner cpu(GetParam());
  const TestWeight w(70, 48, DType::kBF16, 1, 0.3f);
  const WeightView view = w.view();
  const auto packed = cpu.ops().pack_linear({&view, 1}, {}, LinearPrecision::kCompute);
  EXPECT_EQ(packed->bytes, cpu.ops().packed_linear_bytes(70, 48));
  EXPECT_GE(packed->bytes, 70 * 48 * size_of(GetParam().compute));
}

/// A row's result depends on that row alone: not on the rows beside it, their number, or the threads.
void expect_independent_products(const BackendCase& backend, const LinearShape& s) {
  Inputs in = make_inputs(s, DType::kBF16);
  const TestMatrix before = in.out;
  OpRunner cpu(backend, 2);
  const auto weight = pack(cpu.ops(), in);
  cpu.ops().linear(cpu.ctx(), in.x.view(), *weight, in.out.view(), true);
  for (int threads : {1, 2}) {
    for (int64_t rows : {1, 2, 3, 5, 13, 31, 64, 100, 128, 131, 259, 520}) {
      if (rows >= s.rows) continue;
      const int64_t begin = (rows * 37) % (s.rows - rows);
      TestMatrix part = before;
      OpContext ctx{cpu.ctx().arena, threads};
      cpu.ops().linear(ctx, in.x.view().slice_rows(begin, rows), *weight, part.view().slice_rows(begin, rows),
                       true);
      for (int64_t t = begin; t < begin + rows; ++t)
        for (int64_t o = 0; o < s.out; ++o)
          ASSERT_EQ(std::bit_cast<uint32_t>(part.at(t, o)), std::bit_cast<uint32_t>(in.out.at(t, o)))
              << rows << " rows, row " << t << " column " << o << ", " << threads << " threads";
    }
  }
}

TEST_P(LinearTest, RowsAreIndependentToTheBit) {
  expect_independent_products(GetParam(), {300, 1100, 200, true, true, false});
}

/// With whole panels and no gaps: what the library multiplies 256 rows at a time, and what is left of it.
TEST_P(LinearTest, RowsInLibraryBlocksAreIndependentToTheBit) {
  expect_independent_products(GetParam(), {600, 1100, 192, false, true, false});
  expect_independent_products(GetParam(), {600, 128, 64, true, false, false});
  expect_independent_products(GetParam(), {2500, 64, 64, false, false, false});
}

TEST_P(LinearTest, RanksShareOneWeight) {
  const LinearShape s{65, 96, 200, false, false, false};
  Inputs in = make_inputs(s, DType::kBF16);
  const auto device = make_device({.backend = "cpu", .compute = GetParam().compute, .isa = GetParam().isa});
  const auto weight = pack(device->ops(), in);
  std::vector<TestMatrix> outs(4, TestMatrix(s.rows, s.out));
  std::latch start(2);
  std::vector<std::thread> ranks;
  for (size_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      Arena arena(device->memory());
      OpContext ctx{arena, 1};
      start.arrive_and_wait();  // both meet the shapes' first use
      for (size_t i = 0; i < 2; ++i)
        device->ops().linear(ctx, in.x.view(), *weight, outs[2 * rank + i].view(), false);
    });
  }
  for (std::thread& t : ranks) t.join();
  for (size_t i = 1; i < outs.size(); ++i) EXPECT_EQ(max_difference(outs[0], outs[i]), 0);
  OpRunner reference = reference_runner(GetParam().compute);
  TestMatrix expected(s.rows, s.out);
  reference.ops().linear(reference.ctx(), in.x.view(), *pack(reference.ops(), in), expected.view(), false);
  EXPECT_GT(max_abs(expected), 1);
  EXPECT_LT(max_difference(outs[0], expected), 0.02 * max_abs(expected));
}

INSTANTIATE_TEST_SUITE_P(Cpu, LinearTest, testing::ValuesIn(cpu_cases()), case_name);

TEST(LinearChecks, NameTheSymbolThatDisagrees) {
  OpRunner cpu(BackendCase{DType::kF32, "auto"});
  const TestWeight w(8, 16, DType::kF32, 1, 1.0f);
  const WeightView view = w.view();
  const auto weight = cpu.ops().pack_linear({&view, 1}, {}, LinearPrecision::kCompute);
  TestMatrix x(3, 15), out(3, 8);
  try {
    cpu.ops().linear(cpu.ctx(), x.view(), *weight, out.view(), false);
    FAIL() << "a wrong inner dimension was taken";
  } catch (const std::exception& e) {
    EXPECT_STREQ(e.what(), "linear: in of x and w disagrees: 15 and 16");
  }
}

}  // namespace
}  // namespace longspan
