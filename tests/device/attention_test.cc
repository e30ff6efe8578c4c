#include "device/cpu/attention.h"

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>
#include <vector>

#include "device/cpu/kv_pages.h"
#include "device/host_memory.h"

namespace longspan {
namespace {

constexpr double kF32Eps = 0x1p-24;  // relative error of one rounding
constexpr double kBf16Eps = 0x1p-8;

struct Case {
  const char* name;
  int32_t heads_q, heads_kv, dim_k, dim_v, page_size;
  std::vector<int32_t> sequence_lengths;  // keys stored for each sequence
  std::vector<Segment> segments;
};

int32_t row_count(const Case& c) {
  int32_t rows = 0;
  for (const Segment& s : c.segments) rows = std::max(rows, s.q_begin + s.q_len);
  return rows;
}

/// {q_len, sequence, kv_len, causal} -> segments whose rows follow each other.
std::vector<Segment> consecutive(std::vector<Segment> segments) {
  int32_t row = 0;
  for (Segment& s : segments) {
    s.q_begin = row;
    row += s.q_len;
  }
  return segments;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"OneKey", 4, 4, 64, 64, 16, {1}, consecutive({{0, 1, 0, 1}})},
      {"PrefillGqa8", 8, 1, 128, 128, 128, {200}, consecutive({{0, 200, 0, 200}})},
      {"PrefillGqa4Prefix", 8, 2, 64, 64, 16, {333}, consecutive({{0, 37, 0, 333}})},
      {"OddGroup", 15, 3, 80, 80, 16, {70}, consecutive({{0, 33, 0, 70}})},
      {"GroupOfSeven", 7, 1, 128, 128, 128, {150}, consecutive({{0, 50, 0, 150}})},
      {"MoreHeadsThanATile", 131, 1, 8, 8, 16, {40}, consecutive({{0, 5, 0, 40}})},
      {"TinyHeads", 4, 2, 8, 8, 16, {65}, consecutive({{0, 65, 0, 65}})},
      {"DimsDiffer", 4, 2, 128, 64, 128, {140}, consecutive({{0, 20, 0, 140}})},
      {"OddDims", 6, 2, 21, 35, 16, {50}, consecutive({{0, 20, 0, 50}})},
      {"PageOfOne", 4, 1, 64, 64, 1, {45}, consecutive({{0, 45, 0, 45}})},
      {"PageOfSeven", 8, 2, 64, 80, 7, {93}, consecutive({{0, 40, 0, 93}})},
      {"PageOf24", 8, 2, 64, 64, 24, {131}, consecutive({{0, 131, 0, 131}})},
      {"Decode",
       32,
       4,
       128,
       128,
       128,
       {700, 3, 128, 129},
       consecutive({{0, 1, 0, 700}, {0, 1, 1, 3}, {0, 1, 2, 128}, {0, 1, 3, 129}})},
      {"NotCausal", 8, 2, 64, 64, 16, {99, 17}, consecutive({{0, 30, 0, 99, false}, {0, 3, 1, 17, false}})},
      {"NoKeys", 4, 2, 64, 64, 16, {20}, consecutive({{0, 3, 0, 0, false}, {0, 2, 0, 20, true}})},
      {"Mixed",
       8,
       2,
       128,
       128,
       16,
       {300, 64, 1, 41, 200},
       consecutive({{0, 90, 0, 300},
                    {0, 1, 1, 64},
                    {0, 1, 2, 1},
                    {0, 41, 3, 41},
                    {0, 25, 4, 150, false},
                    {0, 1, 4, 200}})},
      {"SeveralChunks",
       8,
       2,
       64,
       64,
       128,
       {4500, 2100},
       consecutive({{0, 5, 0, 4500}, {0, 1, 1, 2100}, {0, 20, 1, 2055}, {0, 2, 0, 4200, false}})},
      {"ChunksOfOddPages", 2, 1, 32, 32, 7, {1100}, consecutive({{0, 3, 0, 1100}})},
      {"GapsBetweenRows", 4, 2, 64, 64, 16, {40}, {{3, 5, 0, 40}, {11, 1, 0, 7}}},
  };
  return all;
}

float bf16(float x) {
  return bf16_to_f32(f32_to_bf16(x));
}

/// Queries, the keys and values of each sequence, and a pool that holds them on shuffled pages whose unused
/// slots are full of large old values.
class Problem {
 public:
  Problem(const Case& c, DType kv_dtype) : spec(c), dtype(kv_dtype) {
    std::mt19937 rng(7);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, int64_t size, float factor) {
      x.resize(static_cast<size_t>(size));
      for (float& value : x) value = normal(rng) * factor;
    };
    rows = row_count(c);
    scale = 1.0f / std::sqrt(static_cast<float>(c.dim_k));
    fill(q, int64_t{rows} * c.heads_q * c.dim_k, 2.0f);

    max_pages = 1;
    int32_t pages = 1;
    for (int32_t length : c.sequence_lengths) {
      const int32_t n = (length + c.page_size - 1) / c.page_size;
      max_pages = std::max(max_pages, n);
      pages += n;
    }
    std::vector<int32_t> order(static_cast<size_t>(pages - 1));
    std::iota(order.begin(), order.end(), 1);
    std::shuffle(order.begin(), order.end(), rng);

    pool = make_cpu_kv_pool({2, pages, c.page_size, c.heads_kv, c.dim_k, c.heads_kv, c.dim_v}, dtype);
    const int64_t k_cols = int64_t{c.heads_kv} * c.dim_k, v_cols = int64_t{c.heads_kv} * c.dim_v;
    std::vector<float> old_k, old_v;
    std::vector<int32_t> all(static_cast<size_t>(pages * c.page_size));
    std::iota(all.begin(), all.end(), 0);
    fill(old_k, static_cast<int64_t>(all.size()) * k_cols, 3e4f);
    fill(old_v, static_cast<int64_t>(all.size()) * v_cols, 3e4f);
    write(1, old_k, old_v, all);

    for (int32_t length : c.sequence_lengths) {
      std::vector<int32_t> slots;
      for (int32_t i = 0; i < length; ++i) {
        if (i % c.page_size == 0) {
          table.push_back(order.back());
          order.pop_back();
        }
        slots.push_back(table.back() * c.page_size + i % c.page_size);
      }
      k.emplace_back();
      v.emplace_back();
      fill(k.back(), length * k_cols, 1.0f);
      fill(v.back(), length * v_cols, 1.0f);
      write(1, k.back(), v.back(), slots);
      if (dtype == DType::kBF16) {
        for (float& x : k.back()) x = bf16(x);
        for (float& x : v.back()) x = bf16(x);
      }
      table.resize(k.size() * static_cast<size_t>(max_pages), 0x7fffffff);  // must not be followed
    }
  }

  struct Result {
    std::vector<float> out, lse;
    bool operator==(const Result&) const = default;
  };

  static constexpr float kUntouched = -12345.0f;

  Result run(Isa isa, const std::vector<Segment>& segments, int threads, bool in_place = false) {
    OpContext ctx{arena_, threads};
    Arena::Scope scope(arena_);
    Result result;
    result.out.assign(static_cast<size_t>(rows * spec.heads_q * spec.dim_v), kUntouched);
    result.lse.assign(static_cast<size_t>(rows * spec.heads_q), kUntouched);
    if (in_place) result.out = q;
    AttentionArgs args;
    args.q = {in_place ? result.out.data() : q.data(), DType::kF32, rows, spec.heads_q * spec.dim_k,
              spec.heads_q * spec.dim_k};
    args.pool = pool.get();
    args.layer = 1;
    args.segments = segments;
    args.block_table = {{table.data(), table.data(), static_cast<int64_t>(table.size())},
                        static_cast<int32_t>(k.size()),
                        max_pages};
    args.heads_q = spec.heads_q;
    args.scale = scale;
    args.out = {result.out.data(), DType::kF32, rows, spec.heads_q * spec.dim_v, spec.heads_q * spec.dim_v};
    args.lse_ln = {result.lse.data(), DType::kF32, rows, spec.heads_q, spec.heads_q};
    cpu_attention(ctx, args, isa);
    return result;
  }

  const Case& spec;
  DType dtype;
  int32_t rows = 0;
  float scale = 0;
  std::vector<float> q;
  std::vector<std::vector<float>> k, v;  // per sequence [keys, Hkv * D], as the pool stores them
  std::vector<int32_t> table;
  int32_t max_pages = 0;
  std::unique_ptr<KvPool> pool;

 private:
  void write(int32_t layer, std::vector<float>& k_rows, std::vector<float>& v_rows,
             const std::vector<int32_t>& slots) {
    OpContext ctx{arena_, 1};
    const int64_t n = static_cast<int64_t>(slots.size());
    const int64_t k_cols = int64_t{spec.heads_kv} * spec.dim_k, v_cols = int64_t{spec.heads_kv} * spec.dim_v;
    cpu_kv_write(ctx, *pool, layer, {k_rows.data(), DType::kF32, n, k_cols, k_cols},
                 {v_rows.data(), DType::kF32, n, v_cols, v_cols}, {slots.data(), slots.data(), n});
  }

  HostMemory memory_;
  Arena arena_{memory_};
};

/// Plain softmax(scale q k) v in double for one query row and head, and what rounding may add to it.
struct Expected {
  std::vector<double> out, out_bound;
  double lse = -std::numeric_limits<double>::infinity(), lse_bound = 0;
};

/// `bf16_products`: the kernel rounds scale * log2(e) * q and the weights to bf16; q is rounded here the same
/// way, so that all that is left is f32 rounding and one bf16 rounding of each weight.
Expected expected_row(const Problem& p, const Segment& s, int32_t i, int32_t head, bool bf16_products) {
  const Case& c = p.spec;
  const int32_t kv_head = head / (c.heads_q / c.heads_kv);
  const auto& k = p.k[static_cast<size_t>(s.block_table_row)];
  const auto& v = p.v[static_cast<size_t>(s.block_table_row)];
  const int32_t keys = s.causal ? s.kv_len - s.q_len + i + 1 : s.kv_len;
  Expected result;
  result.out.resize(static_cast<size_t>(c.dim_v));
  result.out_bound.resize(static_cast<size_t>(c.dim_v));
  if (keys == 0) return result;

  std::vector<double> query(static_cast<size_t>(c.dim_k));
  for (int32_t d = 0; d < c.dim_k; ++d) {
    const float x = p.q[static_cast<size_t>(((s.q_begin + i) * c.heads_q + head) * c.dim_k + d)];
    constexpr float kLog2E = std::numbers::log2e_v<float>;
    query[static_cast<size_t>(d)] =
        bf16_products ? double{bf16(x * (p.scale * kLog2E))} / std::numbers::log2e : double{x} * p.scale;
  }
  std::vector<double> score(static_cast<size_t>(keys));
  double highest = -std::numeric_limits<double>::infinity(), score_error = 0;
  for (int32_t j = 0; j < keys; ++j) {
    const float* key = k.data() + (j * c.heads_kv + kv_head) * c.dim_k;
    double sum = 0, magnitude = 0;
    for (int32_t d = 0; d < c.dim_k; ++d) {
      const double product = query[static_cast<size_t>(d)] * key[d];
      sum += product;
      magnitude += std::abs(product);
    }
    score[static_cast<size_t>(j)] = sum;
    highest = std::max(highest, sum);
    score_error = std::max(score_error, (c.dim_k + 8) * kF32Eps * magnitude);
  }
  double total = 0;
  std::vector<double> magnitude(static_cast<size_t>(c.dim_v));
  for (int32_t j = 0; j < keys; ++j) {
    const double w = std::exp(score[static_cast<size_t>(j)] - highest);
    total += w;
    const float* value = v.data() + (j * c.heads_kv + kv_head) * c.dim_v;
    for (int32_t d = 0; d < c.dim_v; ++d) {
      const double x = w * value[d];
      result.out[static_cast<size_t>(d)] += x;
      magnitude[static_cast<size_t>(d)] += std::abs(x);
    }
  }
  // Weights are off by the errors of two scores and of the exponential, sums by an eps each key at most.
  const double sum_error = (keys + 16) * kF32Eps;
  const double exp_error = bf16_products ? 3e-6 : 2 * kF32Eps;  // what the kernels state
  const double weight_error = std::expm1(2 * score_error) + 2 * exp_error;
  for (int32_t d = 0; d < c.dim_v; ++d) {
    result.out[static_cast<size_t>(d)] /= total;
    result.out_bound[static_cast<size_t>(d)] =
        magnitude[static_cast<size_t>(d)] / total *
        (2 * (weight_error + sum_error) + (bf16_products ? kBf16Eps : 0));
  }
  result.lse = highest + std::log(total);
  result.lse_bound =
      score_error + weight_error + sum_error + 4 * kF32Eps * (std::abs(highest) + std::abs(result.lse));
  return result;
}

struct Way {
  Isa isa;
  DType dtype;
};

std::vector<Way> ways() {
  std::vector<Way> result;
  for (Isa isa : available_isas()) {
    for (DType dtype : {DType::kF32, DType::kBF16}) result.push_back({isa, dtype});
  }
  return result;
}

class Attention : public testing::TestWithParam<std::tuple<Way, size_t>> {
 protected:
  Way way_ = std::get<0>(GetParam());
  const Case& case_ = cases()[std::get<1>(GetParam())];
};

TEST_P(Attention, AgreesWithDoublePrecision) {
  Problem problem(case_, way_.dtype);
  const bool bf16_products = way_.dtype == DType::kBF16 && way_.isa >= Isa::kAvx512Bf16;
  const Problem::Result result = problem.run(way_.isa, case_.segments, 2);
  std::vector<bool> covered(static_cast<size_t>(problem.rows));
  for (const Segment& s : case_.segments) {
    for (int32_t i = 0; i < s.q_len; ++i) {
      const int32_t row = s.q_begin + i;
      covered[static_cast<size_t>(row)] = true;
      for (int32_t h = 0; h < case_.heads_q; ++h) {
        const Expected expected = expected_row(problem, s, i, h, bf16_products);
        const size_t at = static_cast<size_t>(row * case_.heads_q + h);
        if (std::isinf(expected.lse)) {
          ASSERT_EQ(problem.run(way_.isa, case_.segments, 1).lse[at],
                    -std::numeric_limits<float>::infinity());
        } else {
          ASSERT_NEAR(result.lse[at], expected.lse, expected.lse_bound) << "row " << row << " head " << h;
        }
        for (int32_t d = 0; d < case_.dim_v; ++d) {
          ASSERT_NEAR(result.out[at * static_cast<size_t>(case_.dim_v) + static_cast<size_t>(d)],
                      expected.out[static_cast<size_t>(d)], expected.out_bound[static_cast<size_t>(d)])
              << "row " << row << " head " << h << " column " << d;
        }
      }
    }
  }
  for (int32_t row = 0; row < problem.rows; ++row) {
    if (covered[static_cast<size_t>(row)]) continue;
    EXPECT_EQ(result.lse[static_cast<size_t>(row * case_.heads_q)], Problem::kUntouched);
    EXPECT_EQ(result.out[static_cast<size_t>(row * case_.heads_q * case_.dim_v)], Problem::kUntouched);
  }
}

TEST_P(Attention, MayOverwriteItsQueries) {
  if (case_.dim_k != case_.dim_v) GTEST_SKIP() << "q and out differ in width";
  Problem problem(case_, way_.dtype);
  const Problem::Result apart = problem.run(way_.isa, case_.segments, 2);
  const Problem::Result in_place = problem.run(way_.isa, case_.segments, 2, /*in_place=*/true);
  for (const Segment& s : case_.segments) {
    const auto begin = static_cast<size_t>(s.q_begin) * static_cast<size_t>(case_.heads_q * case_.dim_v);
    const auto count = static_cast<size_t>(s.q_len) * static_cast<size_t>(case_.heads_q * case_.dim_v);
    for (size_t i = begin; i < begin + count; ++i) ASSERT_EQ(in_place.out[i], apart.out[i]) << i;
  }
}

/// Pieces of at most `most` rows that see what their rows saw in the whole segment.
std::vector<Segment> cut(const std::vector<Segment>& segments, int32_t most) {
  std::vector<Segment> result;
  for (const Segment& s : segments) {
    for (int32_t begin = 0; begin < s.q_len; begin += most) {
      Segment piece = s;
      piece.q_begin += begin;
      piece.q_len = std::min(most, s.q_len - begin);
      if (s.causal) piece.kv_len -= s.q_len - begin - piece.q_len;
      result.push_back(piece);
    }
  }
  std::reverse(result.begin(), result.end());
  return result;
}

TEST_P(Attention, RowsKeepTheirBitsHoweverTheyAreCutAndSpread) {
  Problem problem(case_, way_.dtype);
  const Problem::Result whole = problem.run(way_.isa, case_.segments, 1);
  EXPECT_EQ(problem.run(way_.isa, case_.segments, 3), whole) << "three threads";
  for (int32_t most : {1, 16, 64}) {
    EXPECT_EQ(problem.run(way_.isa, cut(case_.segments, most), 1), whole) << "pieces of " << most;
  }
  EXPECT_EQ(problem.run(way_.isa, cut(case_.segments, 5), 2), whole) << "pieces of 5 by two threads";
}

std::string test_name(const testing::TestParamInfo<std::tuple<Way, size_t>>& info) {
  const auto [way, index] = info.param;
  return std::string(to_string(way.isa)) + "_" + std::string(to_string(way.dtype)) + "_" +
         cases()[index].name;
}

INSTANTIATE_TEST_SUITE_P(Ways, Attention,
                         testing::Combine(testing::ValuesIn(ways()),
                                          testing::Range(size_t{0}, cases().size())),
                         test_name);

TEST(AttentionSpread, ManyDecodeRowsOverSeveralChunks) {
  const Case c{"", 8, 1, 32, 32, 16, {9000}, consecutive({{0, 1, 0, 9000}})};
  for (Isa isa : available_isas()) {
    Problem problem(c, DType::kBF16);
    const auto one = problem.run(isa, c.segments, 1);
    EXPECT_EQ(problem.run(isa, c.segments, 4), one);
    const Expected expected = expected_row(problem, c.segments[0], 0, 0, isa >= Isa::kAvx512Bf16);
    EXPECT_NEAR(one.out[0], expected.out[0], expected.out_bound[0]);
  }
}

TEST(AttentionExtremes, LargeAndVerySmallScoresStayFinite) {
  const Case c{"", 2, 1, 64, 64, 16, {80}, consecutive({{0, 80, 0, 80}})};
  for (const Way& way : ways()) {
    Problem problem(c, way.dtype);
    for (float& x : problem.q) x *= 300.0f;  // scores of thousands: one key takes all
    for (float value : problem.run(way.isa, c.segments, 1).out) ASSERT_LT(std::abs(value), 6.0f);
    for (float& x : problem.q) x = 0.0f;  // equal scores: the mean
    const auto flat = problem.run(way.isa, c.segments, 1);
    for (int32_t row = 0; row < 80; ++row) {
      EXPECT_NEAR(flat.lse[static_cast<size_t>(2 * row)], std::log(row + 1.0), 1e-6 * 5);
    }
  }
}

TEST(AttentionExtremes, MaximaThatMoveFarFromBlockToBlock) {
  const Case c{"", 2, 1, 64, 64, 16, {1500}, consecutive({{0, 3, 0, 1500}})};
  for (const Way& way : ways()) {
    Problem problem(c, way.dtype);
    for (float& x : problem.q) x *= 20.0f;
    const auto result = problem.run(way.isa, c.segments, 1);
    const bool bf16_products = way.dtype == DType::kBF16 && way.isa >= Isa::kAvx512Bf16;
    for (int32_t i = 0; i < 3; ++i) {
      const Expected expected = expected_row(problem, c.segments[0], i, 1, bf16_products);
      for (size_t d = 0; d < 64; ++d) {
        ASSERT_NEAR(result.out[static_cast<size_t>(i * 2 + 1) * 64 + d], expected.out[d],
                    expected.out_bound[d])
            << to_string(way.isa) << " row " << i << " column " << d;
      }
    }
  }
}

TEST(AttentionChecks, DefectsAreNamed) {
  const Case c{"", 4, 2, 8, 8, 4, {6}, consecutive({{0, 2, 0, 6}})};
  Problem problem(c, DType::kF32);
  const auto message = [&](Segment s) {
    try {
      problem.run(Isa::kPortable, {s}, 1);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(message({0, 3, 0, 6}), testing::HasSubstr("segment rows lie in [0, T)"));
  EXPECT_THAT(message({0, 2, 1, 6}), testing::HasSubstr("block_table_row"));
  EXPECT_THAT(message({0, 2, 0, 1}), testing::HasSubstr("kv_len >= q_len"));
  EXPECT_THAT(message({0, 2, 0, 9}), testing::HasSubstr("kv_len <= max_pages"));
}

}  // namespace
}  // namespace longspan
