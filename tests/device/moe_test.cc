#include <bit>
#include <functional>
#include <map>

#include "device/op_test.h"

namespace longspan {
namespace {

/// An i32 matrix [rows, cols].
struct Ids {
  std::vector<int32_t> data;
  int64_t rows, cols;
  Matrix view() { return {data.data(), DType::kI32, rows, cols, cols}; }
  int32_t at(int64_t t, int64_t j) const { return data[static_cast<size_t>(t * cols + j)]; }
};

class MoeTest : public testing::TestWithParam<BackendCase> {};

TEST_P(MoeTest, RoutesLikeTheReference) {
  for (const auto& [experts, k] : {std::pair<int64_t, int64_t>{128, 8}, {8, 2}, {5, 1}, {3, 3}, {60, 4}}) {
    for (int64_t rows : {0, 1, 7, 300}) {
      for (bool normalize : {false, true}) {
        TestMatrix logits(rows, experts, 3), weights(rows, k), expected(rows, k);
        logits.fill_random(static_cast<uint32_t>(rows + experts), 3.0f);
        Ids ids{std::vector<int32_t>(static_cast<size_t>(rows * k) + 1), rows, k}, expected_ids = ids;
        OpRunner cpu(GetParam());
        OpRunner reference = reference_runner(GetParam().compute);
        cpu.ops().moe_route(cpu.ctx(), logits.view(), normalize, ids.view(), weights.view());
        reference.ops().moe_route(reference.ctx(), logits.view(), normalize, expected_ids.view(),
                                  expected.view());
        EXPECT_EQ(ids.data, expected_ids.data);
        // exp within 2 ulp on each term, a sum of `experts` terms, two divisions.
        EXPECT_LE(max_difference(weights, expected), 2 * static_cast<double>(experts + 8) * kRoundF32);
      }
    }
  }
}

TEST_P(MoeTest, RouterTiesGoToTheLowestExpert) {
  TestMatrix logits(2, 6), weights(2, 3);
  const float rows[2][6] = {{1, 3, 3, 0, 3, 3}, {0, 0, 0, 0, 0, 0}};
  for (int64_t t = 0; t < 2; ++t)
    for (int64_t e = 0; e < 6; ++e) logits.at(t, e) = rows[t][e];
  Ids ids{std::vector<int32_t>(6), 2, 3};
  OpRunner cpu(GetParam());
  cpu.ops().moe_route(cpu.ctx(), logits.view(), true, ids.view(), weights.view());
  EXPECT_EQ(ids.data, (std::vector<int32_t>{1, 2, 4, 0, 1, 2}));
  for (int64_t t = 0; t < 2; ++t)
    for (int64_t j = 0; j < 3; ++j) EXPECT_NEAR(weights.at(t, j), 1.0 / 3.0, 4 * kRoundF32);
}

struct MoeShape {
  const char* name;
  int64_t rows, k, hidden, width;
  int32_t experts, first, count;  // of all experts, those this rank holds
  std::function<int32_t(int64_t t, int64_t j)> choose;
};

int32_t spread(int64_t t, int64_t j) {
  return static_cast<int32_t>((t * 7 + j * 3 + t * t) % 1000003);
}

const MoeShape kMoeShapes[] = {
    {"no_rows", 0, 2, 32, 32, 4, 0, 4, spread},
    {"one_row", 1, 4, 64, 96, 16, 0, 16, spread},
    {"odd_sizes", 33, 2, 40, 50, 5, 0, 5, spread},
    {"one_choice", 33, 1, 96, 64, 3, 0, 3, spread},
    {"all_to_one", 300, 1, 64, 33, 4, 0, 4, [](int64_t, int64_t) { return 2; }},
    {"few_used", 70, 2, 64, 64, 32, 0, 32,
     [](int64_t t, int64_t j) { return static_cast<int32_t>(t % 2 * 20 + j); }},
    {"a_share_of_the_experts", 50, 4, 64, 80, 16, 5, 6, spread},
    {"none_local", 9, 2, 32, 32, 16, 12, 4, [](int64_t, int64_t j) { return static_cast<int32_t>(j); }},
    {"many_rows", 600, 4, 128, 96, 8, 0, 8, spread},
};

/// Weights, input and choices of one shape, and the expected output with a bound on its error.
struct MoeCase {
  const MoeShape& s;
  std::vector<TestWeight> gate, up, down;
  TestMatrix x, out, weights;
  Ids ids;
  std::unique_ptr<ExpertWeights> pack(Ops& ops) const {
    std::vector<ExpertSource> sources;
    for (int32_t e = s.first; e < s.first + s.count; ++e) {
      const auto i = static_cast<size_t>(e);
      sources.push_back({gate[i].view(), up[i].view(), down[i].view()});
    }
    return ops.pack_experts(sources, s.first, nullptr);
  }
};

MoeCase make_case(const MoeShape& s, DType stored) {
  MoeCase c{.s = s,
            .gate = {},
            .up = {},
            .down = {},
            .x = TestMatrix(s.rows, s.hidden, 5),
            .out = TestMatrix(s.rows, s.hidden, 9),
            .weights = TestMatrix(s.rows, s.k),
            .ids = {std::vector<int32_t>(static_cast<size_t>(s.rows * s.k) + 1), s.rows, s.k}};
  const auto scale = [](int64_t n) { return 1.0f / std::sqrt(static_cast<float>(n)); };
  for (uint32_t e = 0; e < static_cast<uint32_t>(s.experts); ++e) {
    c.gate.emplace_back(s.width, s.hidden, stored, 3 * e, scale(s.hidden));
    c.up.emplace_back(s.width, s.hidden, stored, 3 * e + 1, scale(s.hidden));
    c.down.emplace_back(s.hidden, s.width, stored, 3 * e + 2, scale(s.width));
  }
  c.x.fill_random(1, 2.0f);
  c.out.fill_random(2);
  c.weights.fill_random(3, 0.5f);
  for (int64_t t = 0; t < s.rows; ++t)
    for (int64_t j = 0; j < s.k; ++j)
      c.ids.data[static_cast<size_t>(t * s.k + j)] = s.choose(t, j) % s.experts;
  return c;
}

struct Sum {
  double value = 0, error = 0;  // of the computed value, at most
};

/// sum of a[i] * w(row, i), with an error bound for inputs of relative error `input_round` plus `a[i].error`,
/// summed in f32.
Sum dot(const std::vector<Sum>& a, const TestWeight& w, int64_t row, DType compute, double input_round) {
  Sum s;
  const double sum_round = 2 * static_cast<double>(a.size() + 2) * kRoundF32;
  for (size_t i = 0; i < a.size(); ++i) {
    const double weight = w.value(row, static_cast<int64_t>(i), compute);
    s.value += a[i].value * weight;
    s.error += std::abs(weight) * (std::abs(a[i].value) * (input_round + sum_round) + a[i].error);
  }
  return s;
}

/// The expert's output for row t, in double.
std::vector<Sum> expert_output(const MoeCase& c, int64_t t, size_t e, const BackendCase& backend) {
  std::vector<Sum> x, activated, y;
  for (int64_t i = 0; i < c.s.hidden; ++i) x.push_back({c.x.at(t, i), 0});
  const double round = backend.activation_round();
  for (int64_t i = 0; i < c.s.width; ++i) {
    const Sum gate = dot(x, c.gate[e], i, backend.compute, round);
    const Sum up = dot(x, c.up[e], i, backend.compute, round);
    const double silu = gate.value / (1 + std::exp(-gate.value));
    const double silu_error = 1.1 * gate.error + 8 * kRoundF32 * std::abs(silu);  // |silu'| < 1.1
    activated.push_back(
        {silu * up.value, silu_error * (std::abs(up.value) + up.error) + std::abs(silu) * up.error});
  }
  for (int64_t i = 0; i < c.s.hidden; ++i) y.push_back(dot(activated, c.down[e], i, backend.compute, round));
  return y;
}

TEST_P(MoeTest, ExpertsMatchTheFormula) {
  for (const MoeShape& s : kMoeShapes) {
    SCOPED_TRACE(s.name);
    MoeCase c = make_case(s, GetParam().compute == DType::kF32 ? DType::kF32 : DType::kBF16);
    const TestMatrix before = c.out;
    OpRunner cpu(GetParam());
    const auto experts = c.pack(cpu.ops());
    EXPECT_EQ(experts->bytes, s.count * cpu.ops().packed_expert_bytes(s.hidden, s.width));
    cpu.ops().moe_experts(cpu.ctx(), c.x.view(), c.ids.view(), c.weights.view(), *experts, c.out.view());
    EXPECT_TRUE(c.out.gaps_intact());
    for (int64_t t = 0; t<s.rows; t += s.rows> 100 ? 17 : 1) {
      std::vector<Sum> sum(static_cast<size_t>(s.hidden));
      for (int64_t i = 0; i < s.hidden; ++i) sum[static_cast<size_t>(i)].value = before.at(t, i);
      for (int64_t j = 0; j < s.k; ++j) {
        const int32_t e = c.ids.at(t, j);
        if (e < s.first || e >= s.first + s.count) continue;
        const std::vector<Sum> y = expert_output(c, t, static_cast<size_t>(e), GetParam());
        const double w = c.weights.at(t, j);
        for (size_t i = 0; i < y.size(); ++i) {
          sum[i].value += w * y[i].value;
          sum[i].error +=
              std::abs(w) * y[i].error + 4 * kRoundF32 * (std::abs(sum[i].value) + std::abs(w * y[i].value));
        }
      }
      for (int64_t i = 0; i < s.hidden; ++i) {
        const Sum& expected = sum[static_cast<size_t>(i)];
        ASSERT_NEAR(c.out.at(t, i), expected.value, expected.error + 4 * kRoundF32 * std::abs(expected.value))
            << "row " << t << " column " << i;
      }
    }
  }
}

TEST(MoeReference, MatchesTheFormula) {
  for (DType compute : {DType::kF32, DType::kBF16}) {
    const BackendCase exact{compute, ""};
    MoeCase c = make_case(kMoeShapes[2], DType::kF32);
    const TestMatrix before = c.out;
    OpRunner reference = reference_runner(compute);
    reference.ops().moe_experts(reference.ctx(), c.x.view(), c.ids.view(), c.weights.view(),
                                *c.pack(reference.ops()), c.out.view());
    for (int64_t t = 0; t < c.s.rows; ++t) {
      std::vector<double> sum(static_cast<size_t>(c.s.hidden)), error(sum.size());
      for (int64_t j = 0; j < c.s.k; ++j) {
        const std::vector<Sum> y = expert_output(c, t, static_cast<size_t>(c.ids.at(t, j)), exact);
        for (size_t i = 0; i < y.size(); ++i) {
          sum[i] += c.weights.at(t, j) * y[i].value;
          error[i] += std::abs(c.weights.at(t, j)) * y[i].error;
        }
      }
      for (size_t i = 0; i < sum.size(); ++i) {
        const double expected = before.at(t, static_cast<int64_t>(i)) + sum[i];
        ASSERT_NEAR(c.out.at(t, static_cast<int64_t>(i)), expected,
                    error[i] + 1e-5 * (1 + std::abs(expected)));
      }
    }
  }
}

/// A row's result depends on that row and its choices alone, whatever else its experts were given.
void expect_independent_rows(const BackendCase& backend, const MoeShape& shape) {
  MoeCase c = make_case(shape, DType::kBF16);
  const TestMatrix before = c.out;
  OpRunner cpu(backend);
  const auto experts = c.pack(cpu.ops());
  cpu.ops().moe_experts(cpu.ctx(), c.x.view(), c.ids.view(), c.weights.view(), *experts, c.out.view());
  for (int64_t rows : {1, 3, 40, 333}) {
    const int64_t begin = (rows * 131) % (c.s.rows - rows);
    TestMatrix part = before;
    OpContext ctx{cpu.ctx().arena, rows % 2 == 0 ? 2 : 1};
    cpu.ops().moe_experts(ctx, c.x.view().slice_rows(begin, rows), c.ids.view().slice_rows(begin, rows),
                          c.weights.view().slice_rows(begin, rows), *experts,
                          part.view().slice_rows(begin, rows));
    for (int64_t t = begin; t < begin + rows; ++t)
      for (int64_t i = 0; i < c.s.hidden; ++i)
        ASSERT_EQ(std::bit_cast<uint32_t>(part.at(t, i)), std::bit_cast<uint32_t>(c.out.at(t, i)))
            << rows << " rows, row " << t << " column " << i;
  }
}

TEST_P(MoeTest, RowsAreIndependentToTheBit) {
  expect_independent_rows(GetParam(), kMoeShapes[8]);
}

/// So many rows that they pass through the experts in several blocks.
TEST_P(MoeTest, RowsInBlocksAreIndependentToTheBit) {
  expect_independent_rows(GetParam(), {"in_blocks", 3500, 4, 16, 2048, 4, 0, 4, spread});
}

INSTANTIATE_TEST_SUITE_P(Cpu, MoeTest, testing::ValuesIn(cpu_cases()), case_name);

}  // namespace
}  // namespace longspan
