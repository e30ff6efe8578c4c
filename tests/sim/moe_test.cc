// Operators of a mixture of experts: a right call gives the right numbers, and each rule broken is refused.

#include <functional>

#include "sim/operators.h"

namespace cann_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

/// A grouped multiply that is right but for one thing.
struct Grouped {
  aclTensorList *x, *weight, *out, *bias = nullptr, *feature_out = nullptr;
  aclTensor* groups;
  int64_t split_item = 2, group_type = 0, list_type = 1, activation = 0;
  aclIntArray* tuning = nullptr;
};

TEST_F(Operators, GroupedMatmulRefusals) {
  const auto half = [&](std::vector<int64_t> dims) { return s.tensor(s.allocate(512), dims, ACL_BF16); };
  const auto refused = [&](const std::function<void(Grouped&)>& change, const char* says) {
    Grouped g{.x = s.list(half({4, 2})),
              .weight = s.list(half({3, 2, 5})),
              .out = s.list(half({4, 5})),
              .groups = s.tensor(s.allocate(24), {3}, ACL_INT64)};
    change(g);
    expect_refused(RUN(s, aclnnGroupedMatmulV5, g.x, g.weight, g.bias, nullptr, nullptr, nullptr, nullptr,
                       nullptr, g.groups, nullptr, nullptr, nullptr, g.split_item, g.group_type, g.list_type,
                       g.activation, g.tuning, g.out, g.feature_out, nullptr),
                   kInvalid, says);
  };
  refused([&](Grouped& g) { g.bias = s.list(out({5}).tensor); }, "bias must be null");
  refused([&](Grouped& g) { g.feature_out = s.list(half({4, 5})); }, "activationFeatureOut must be null");
  refused([&](Grouped& g) { g.tuning = s.integers({1}); }, "tuningConfigOptional must be null");
  refused([](Grouped& g) { g.split_item = 0; }, "splitItem 0");
  refused([](Grouped& g) { g.group_type = 2; }, "groupType 2");
  refused([](Grouped& g) { g.list_type = 3; }, "groupListType 3 must be 0 (running sums), 1 (counts) or 2");
  refused([](Grouped& g) { g.activation = 1; }, "actType 1");
  refused([&](Grouped& g) { g.x = s.list({half({4, 2}), half({4, 2})}); }, "x must be a list of one");
  refused([&](Grouped& g) { g.x = s.list(half({8})); }, "2 to 2 dims");
  refused([&](Grouped& g) { g.x = s.list(half({4, 3})); }, "inner dims disagree");
  refused([&](Grouped& g) { g.weight = s.list(half({2, 5})); }, "3 to 3 dims");
  refused([&](Grouped& g) { g.weight = s.list(out({3, 2, 5}).tensor); }, "must be the same");
  refused([&](Grouped& g) { g.out = s.list(half({5, 4})); }, "must have dims [4, 5]");
  refused([&](Grouped& g) { g.groups = s.tensor(s.allocate(32), {4}, ACL_INT64); }, "must have dims [3]");
  refused([&](Grouped& g) { g.groups = s.tensor(s.allocate(12), {3}, ACL_INT32); }, "dtype INT32");
  refused(
      [&](Grouped& g) {
        g.x = s.list(s.tensor(s.allocate(512), {4, 2}, ACL_BF16, {.strides = {4, 1}, .storage = {4, 4}}));
      },
      "contiguous");
  refused(
      [&](Grouped& g) {
        g.weight = s.list(s.tensor(s.allocate(1025 * 20), {1025, 2, 5}, ACL_BF16));
      },
      "1024 at most");
  refused(
      [&](Grouped& g) {
        g.weight = s.list(s.tensor(s.allocate(2 * 65536 * 2), {1, 2, 65536}, ACL_BF16));
        g.groups = s.tensor(s.allocate(8), {1}, ACL_INT64);
        g.out = s.list(s.tensor(s.allocate(4 * 65536 * 2), {4, 65536}, ACL_BF16));
      },
      "below 65536");
}

TEST_F(Operators, GatingTakesTheLargestAndTheLowestOfEquals) {
  const Out y = out({1, 2}), ids = out({1, 2}, ACL_INT32);
  aclTensor* x = floats({0, std::log(2.0f), std::log(2.0f), 0}, {1, 4});
  const auto gate = [&](int64_t k, int64_t renorm) {
    return RUN(s, aclnnMoeGatingTopKSoftmaxV2, x, nullptr, k, renorm, false, y.tensor, ids.tensor, nullptr);
  };
  expect_ok(gate(2, 0));
  EXPECT_THAT(result<int32_t>(ids), ElementsAre(1, 2));
  EXPECT_THAT(result(y), Pointwise(NearFloat(), std::vector<float>{1 / 3.0f, 1 / 3.0f}));
  expect_ok(gate(2, 1));
  EXPECT_THAT(result(y), Pointwise(NearFloat(), std::vector<float>{.5f, .5f}));
  expect_refused(gate(5, 1), kInvalid, "k = 5");
  expect_refused(gate(2, 2), kInvalid, "renorm 2");
}

TEST_F(Operators, GatingTellsTheSoftmaxOfEveryExpert) {
  const Out y = out({1, 1}), ids = out({1, 1}, ACL_INT32), all = out({1, 4});
  aclTensor* x = floats({0, std::log(5.0f), 0, 0}, {1, 4});
  const auto gate = [&](int64_t renorm, bool wanted, aclTensor* softmax) {
    return RUN(s, aclnnMoeGatingTopKSoftmaxV2, x, nullptr, int64_t{1}, renorm, wanted, y.tensor, ids.tensor,
               softmax);
  };
  expect_ok(gate(0, true, all.tensor));
  EXPECT_THAT(result(all), Pointwise(NearFloat(), std::vector<float>{.125f, .625f, .125f, .125f}));
  EXPECT_THAT(result(y), Pointwise(NearFloat(), std::vector<float>{.625f}));
  expect_refused(gate(0, true, nullptr), ACLNN_ERR_PARAM_NULLPTR, "softmaxResultOutOptional is null");
  expect_refused(gate(0, true, out({1, 4}, ACL_BF16).tensor), kInvalid, "dtype BF16");
  expect_refused(gate(0, true, out({4}).tensor), kInvalid, "must have dims [1, 4]");
  expect_refused(gate(1, true, all.tensor), kInvalid, "with renorm 0 only");
  expect_refused(gate(0, false, all.tensor), kInvalid, "softmaxResultOutOptional must be null");
}

// Three tokens, two of three experts each: routed, multiplied per expert by 1, 10 and 100, and summed again.
class Routing : public Operators {
 protected:
  using Operators::Operators;

  aclTensor* x = s.tensor(s.upload_bf16({1, 2, 3}), {3, 1}, ACL_BF16);
  aclTensor* ids = ints({2, 0, 0, 1, 2, 1}, {3, 2});
  Out expanded = out({6, 1}, ACL_BF16), places = out({6}, ACL_INT32);
  int64_t experts = 3;

  void finish(aclTensor* counts) {
    aclTensor* w = s.tensor(s.upload_bf16({1, 10, 100}), {3, 1, 1}, ACL_BF16);
    const Out y = out({6, 1}, ACL_BF16), sum = out({3, 1}, ACL_BF16);
    expect_ok(RUN(s, aclnnGroupedMatmulV4, s.list(expanded.tensor), s.list(w), nullptr, nullptr, nullptr,
                  nullptr, nullptr, nullptr, counts, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                  int64_t{1}, int64_t{0}, s.list(y.tensor), nullptr, nullptr));
    aclTensor* again = s.tensor(y.data, {6, 1}, ACL_BF16);
    aclTensor* scales = floats({.5f, 1, 1, 1, 1, 2}, {3, 2});
    expect_ok(RUN(s, aclnnMoeFinalizeRoutingV2, again, places.tensor, nullptr, nullptr, nullptr, scales,
                  nullptr, int64_t{2}, sum.tensor));
    ASSERT_EQ(s.sync(), 0) << s.error();
    EXPECT_THAT(s.download_bf16(sum.data, 3), ElementsAre(51, 22, 360));
    expect_refused(RUN(s, aclnnMoeFinalizeRoutingV2, again, places.tensor, nullptr, nullptr, nullptr, scales,
                       nullptr, int64_t{4}, sum.tensor),
                   kInvalid, "dropPadMode 4");
  }
  int route(aclTensor* counts, std::vector<int64_t> range, int64_t active = 6, int64_t type = 1,
            int64_t row_idx = 0) {
    aclTensor* scale = out({6}).tensor;
    return RUN(s, aclnnMoeInitRoutingV3, x, ids, nullptr, nullptr, active, int64_t{0}, experts, int64_t{0},
               type, true, int64_t{-1}, s.integers(range), row_idx, expanded.tensor, places.tensor, counts,
               scale);
  }
};

TEST_F(Routing, V3) {
  const Out counts = out({3}, ACL_INT64);
  expect_ok(route(counts.tensor, {0, 3}));
  EXPECT_THAT(result<int32_t>(places), ElementsAre(4, 0, 1, 2, 5, 3));
  EXPECT_THAT(result<int64_t>(counts), ElementsAre(2, 2, 2));
  EXPECT_THAT(s.download_bf16(expanded.data, 6), ElementsAre(1, 2, 2, 3, 1, 3));
  expect_refused(route(counts.tensor, {0, 3}, 5), kInvalid, "activeNum 5");
  expect_refused(route(counts.tensor, {0, 3}, 6, 0), kInvalid, "expertTokensNumType 0");
  expect_refused(route(counts.tensor, {0}), kInvalid, "activeExpertRange");
  expect_refused(route(out({3}, ACL_INT32).tensor, {0, 3}), kInvalid, "dtype INT32");
  aclTensor* gaps = s.tensor(s.allocate(48), {3}, ACL_INT64, {.strides = {2}, .storage = {6}});
  expect_refused(route(gaps, {0, 3}), kInvalid, "contiguous");
  finish(counts.tensor);
}

// Where each row came from, instead of where each pair went.
TEST_F(Routing, V3Scatters) {
  const Out counts = out({3}, ACL_INT64);
  expect_ok(route(counts.tensor, {0, 3}, 6, 1, 1));
  EXPECT_THAT(result<int32_t>(places), ElementsAre(1, 2, 3, 5, 0, 4));
  EXPECT_THAT(s.download_bf16(expanded.data, 6), ElementsAre(1, 2, 2, 3, 1, 3));
  expect_refused(route(counts.tensor, {0, 3}, 6, 1, 2), kInvalid, "rowIdxType 2");
  expect_refused(route(out({2}, ACL_INT64).tensor, {1, 3}, 6, 1, 1), kInvalid, "every expert active only");
}

// Experts without rows are left out; behind (0, 0) nothing is written.
TEST_F(Routing, V3TellsPairs) {
  ids = ints({4, 0, 0, 2, 4, 2}, {3, 2});
  experts = 5;
  const Out pairs = out({5, 2}, ACL_INT64);
  expect_ok(route(pairs.tensor, {0, 5}, 6, 2));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<int64_t>(pairs.data, 8), ElementsAre(0, 2, 2, 2, 4, 2, 0, 0));
  std::vector<int64_t> all(10);
  EXPECT_EQ(CANN(aclrtMemcpy)(all.data(), 80, pairs.data, 80, ACL_MEMCPY_DEVICE_TO_HOST),
            ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("byte 64 of 80 was never written"));
  expect_ok(route(pairs.tensor, {1, 5}, 6, 2));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<int64_t>(pairs.data, 6), ElementsAre(2, 2, 4, 2, 0, 0)) << "ids of all experts";
  EXPECT_THAT(result<int32_t>(places), ElementsAre(2, -1, -1, 0, 3, 1));
}

TEST_F(Routing, V3PairsOfEveryExpertFillTheTensor) {
  const Out pairs = out({3, 2}, ACL_INT64);
  expect_ok(route(pairs.tensor, {0, 3}, 6, 2));
  EXPECT_THAT(result<int64_t>(pairs), ElementsAre(0, 2, 1, 2, 2, 2));
}

TEST_F(Routing, V3PairsHaveOneOfEachExpert) {
  expect_refused(route(out({3}, ACL_INT64).tensor, {0, 3}, 6, 2), kInvalid, "must have dims [3, 2]");
  expect_refused(route(out({2, 2}, ACL_INT64).tensor, {1, 3}, 6, 2), kInvalid, "must have dims [3, 2]");
  expect_refused(route(out({3, 2}, ACL_INT32).tensor, {0, 3}, 6, 2), kInvalid, "dtype INT32");
  expect_refused(route(out({3, 2}, ACL_INT64).tensor, {0, 3}, 6, 3), kInvalid, "expertTokensNumType 3");
  experts = 5121;
  expect_refused(route(out({5121, 2}, ACL_INT64).tensor, {0, 3}, 6, 2), kInvalid, "must be at most 5120");
  expect_ok(route(out({3}, ACL_INT64).tensor, {0, 3}));
  experts = 10241;
  expect_refused(route(out({3}, ACL_INT64).tensor, {0, 3}), kInvalid, "must be at most 10240");
}

// Of CANN 9.0, whose grouped products take them.
class Pairs : public Routing {
 protected:
  Pairs() : Routing("9.0") {}

  // Rows times 1, 10 or 100; of rows that no group has the products stay -7.
  void* rows = s.upload_bf16({1, 2, 3, 4, 5, 6});
  void* products = s.upload_bf16(std::vector<float>(6, -7));

  int multiply(aclTensor* list, void* x, int64_t groups = 3, int64_t type = 2) {
    aclTensor* a = s.tensor(x, {6, 1}, ACL_BF16);
    aclTensor* w = s.tensor(s.upload_bf16({1, 10, 100}), {groups, 1, 1}, ACL_BF16);
    return RUN(s, aclnnGroupedMatmulV5, s.list(a), s.list(w), nullptr, nullptr, nullptr, nullptr, nullptr,
               nullptr, list, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0}, type, int64_t{0}, nullptr,
               s.list(s.tensor(products, {6, 1}, ACL_BF16)), nullptr, nullptr);
  }
  aclTensor* list(const std::vector<int64_t>& pairs, std::vector<int64_t> dims = {3, 2}) {
    return s.tensor(s.upload(pairs), std::move(dims), ACL_INT64);
  }
};

TEST_F(Pairs, SayWhoseRowsComeNext) {
  expect_ok(multiply(list({2, 1, 0, 3, 1, 0}), rows));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download_bf16(products, 6), ElementsAre(100, 2, 3, 4, -7, -7));
}

TEST_F(Pairs, OfRoutingAreThoseOfTheProduct) {
  ids = ints({2, 0, 0, 2, 2, 0}, {3, 2});
  const Out pairs = out({3, 2}, ACL_INT64);
  expect_ok(route(pairs.tensor, {0, 3}, 6, 2));
  expect_ok(multiply(pairs.tensor, expanded.data));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download_bf16(expanded.data, 6), ElementsAre(1, 2, 3, 1, 2, 3));
  EXPECT_THAT(s.download_bf16(products, 6), ElementsAre(1, 2, 3, 100, 200, 300));
}

TEST_F(Pairs, AreNotReadBehindOneWithoutRows) {
  void* pairs = s.allocate(48);
  const std::vector<int64_t> written = {1, 2, 0, 0};
  ASSERT_EQ(CANN(aclrtMemcpy)(pairs, 48, written.data(), 32, ACL_MEMCPY_HOST_TO_DEVICE), 0) << s.error();
  expect_ok(multiply(s.tensor(pairs, {3, 2}, ACL_INT64), rows));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download_bf16(products, 6), ElementsAre(10, 20, -7, -7, -7, -7));
}

struct WrongList {
  std::vector<int64_t> pairs;
  const char* says;
};

class WrongPairs : public Pairs, public testing::WithParamInterface<WrongList> {};

INSTANTIATE_TEST_SUITE_P(
    Lists, WrongPairs,
    testing::Values(WrongList{{0, 1, 3, 1, 1, 0}, "groupList: pair 1 is of group 3, which is outside 0..2"},
                    WrongList{{-1, 1, 0, 0, 0, 0}, "groupList: pair 0 is of group -1, which is outside 0..2"},
                    WrongList{{1, 2, 0, 1, 1, 2}, "groupList: group 1 comes twice"},
                    WrongList{{1, 2, 0, 0, 2, 1}, "groupList: pair 2 has 1 rows, one before it has none"},
                    WrongList{{1, 2, 0, -1, 2, 1}, "groupList: group 0 has -1 rows"},
                    WrongList{{1, 2, 0, 4, 2, 1}, "groupList: the groups have 7 rows, x has 6"}));

TEST_P(WrongPairs, AreTold) {
  expect_ok(multiply(list(GetParam().pairs), rows));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr(GetParam().says));
}

TEST_F(Pairs, HaveAShapeAndATypeOfTheirOwn) {
  expect_refused(multiply(list({2, 2, 2}, {3}), rows), kInvalid, "groupList must have dims [3, 2]");
  expect_refused(multiply(list({0, 1, 1, 1}, {2, 2}), rows), kInvalid, "must have dims [3, 2], has [2, 2]");
  expect_refused(multiply(list({0, 1, 0, 1, 1, 0}, {2, 3}), rows), kInvalid, "has [2, 3]");
  expect_refused(multiply(list({0, 1, 1, 1, 2, 1}), rows, 3, 1), kInvalid, "must have dims [3], has [3, 2]");
  expect_refused(multiply(list({0, 6}, {1, 2}), rows, 1), kInvalid, "more than one group");
  aclTensorList *x_f32 = s.list(floats({1, 2}, {2, 1})), *w_f32 = s.list(floats({1, 2}, {2, 1, 1}));
  expect_refused(RUN(s, aclnnGroupedMatmulV5, x_f32, w_f32, nullptr, nullptr, nullptr, nullptr, nullptr,
                     nullptr, list({0, 1, 1, 1}, {2, 2}), nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                     int64_t{2}, int64_t{0}, nullptr, s.list(out({2, 1}).tensor), nullptr, nullptr),
                 ACLNN_ERR_INNER_TILING_ERROR, "x is FLOAT, pairs want FLOAT16 or BF16");
}

// The page of V5 of that time names 0 and 1 alone for weights that are not quantised; V4 is the same kernel.
TEST_F(Operators, PairsAreRefusedBeforeCann90) {
  const auto half = [&](std::vector<int64_t> dims) {
    return s.list(s.tensor(s.upload_bf16({1, 2, 3, 4}), std::move(dims), ACL_BF16));
  };
  aclTensor* pairs = s.tensor(s.upload<int64_t>({0, 1, 1, 1}), {2, 2}, ACL_INT64);
  constexpr const char* kSays = "groupListType 2: CANN 8.5 takes 0 (running sums) and 1 (counts)";
  expect_refused(RUN(s, aclnnGroupedMatmulV4, half({2, 1}), half({2, 1, 1}), nullptr, nullptr, nullptr,
                     nullptr, nullptr, nullptr, pairs, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                     int64_t{2}, int64_t{0}, half({2, 1}), nullptr, nullptr),
                 ACLNN_ERR_INNER_TILING_ERROR, kSays);
  expect_refused(RUN(s, aclnnGroupedMatmulV5, half({2, 1}), half({2, 1, 1}), nullptr, nullptr, nullptr,
                     nullptr, nullptr, nullptr, pairs, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                     int64_t{2}, int64_t{0}, nullptr, half({2, 1}), nullptr, nullptr),
                 ACLNN_ERR_INNER_TILING_ERROR, kSays);
}

// Places by column: of every token's first pair, then of every token's second.
TEST_F(Operators, FinalizeTakesPlacesByColumn) {
  aclTensor *x = floats({1, 2, 3, 4, 5, 6}, {6, 1}), *scales = floats({1, 10, 1, 10, 1, 10}, {3, 2});
  const Out sum = out({3, 1});
  const auto finalise = [&](aclTensor* rows, const std::vector<int32_t>& places, int64_t mode) {
    return RUN(s, aclnnMoeFinalizeRoutingV2, rows, ints(places, {6}), nullptr, nullptr, nullptr, scales,
               nullptr, mode, sum.tensor);
  };
  expect_ok(finalise(x, {4, 0, 1, 2, 5, 3}, 0));
  EXPECT_THAT(result(sum), ElementsAre(5 + 30, 1 + 60, 2 + 40));
  aclTensor* padded = floats({1, 2, 3, 4, 5, 6}, {3, 2, 1});
  expect_refused(finalise(x, {4, 0, 1, 2, 5, 3}, 1), kInvalid, "must have 3 to 3 dims");
  expect_ok(finalise(padded, {4, -1, 1, 2, 5, -1}, 1));
  EXPECT_THAT(result(sum), ElementsAre(5 + 30, 60, 2));
  expect_ok(finalise(x, {4, -1, 1, 2, 5, 3}, 0));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("[1] = -1 is outside 0..5"));
}

// Experts 1 and 2 of three: the others' pairs have no row and no place, and mode 3 leaves them out of the
// sum.
TEST_F(Routing, V3OfSomeExperts) {
  const Out counts = out({2}, ACL_INT64);
  expect_refused(route(counts.tensor, {0, 3}), kInvalid, "[3]");
  expect_refused(route(counts.tensor, {2, 4}), kInvalid, "activeExpertRange");
  expect_ok(route(counts.tensor, {1, 3}));
  EXPECT_THAT(result<int32_t>(places), ElementsAre(2, -1, -1, 0, 3, 1));
  EXPECT_THAT(result<int64_t>(counts), ElementsAre(2, 2));
  EXPECT_THAT(s.download_bf16(expanded.data, 4), ElementsAre(2, 3, 1, 3));
  aclTensor* w = s.tensor(s.upload_bf16({10, 100}), {2, 1, 1}, ACL_BF16);
  const Out y = out({6, 1}, ACL_BF16), sum = out({3, 1}, ACL_BF16);
  expect_ok(RUN(s, aclnnGroupedMatmulV4, s.list(expanded.tensor), s.list(w), nullptr, nullptr, nullptr,
                nullptr, nullptr, nullptr, counts.tensor, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                int64_t{1}, int64_t{0}, s.list(y.tensor), nullptr, nullptr));
  aclTensor* scales = floats({.5f, 1, 1, 1, 1, 2}, {3, 2});
  const auto finalise = [&](std::vector<int64_t> dims, int64_t mode) {
    return RUN(s, aclnnMoeFinalizeRoutingV2, s.tensor(y.data, dims, ACL_BF16), places.tensor, nullptr,
               nullptr, nullptr, scales, nullptr, mode, sum.tensor);
  };
  expect_refused(finalise({6, 1}, 3), kInvalid, "must have 3 to 3 dims");
  expect_ok(finalise({1, 6, 1}, 3));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download_bf16(sum.data, 3), ElementsAre(50, 20, 360));
  expect_ok(finalise({6, 1}, 2));
  EXPECT_NE(s.sync(), 0);
  EXPECT_THAT(s.error(), HasSubstr("= -1 is outside 0..5"));
}

TEST_F(Routing, V2CountsInInt32) {
  const Out counts = out({3}, ACL_INT32), wide = out({3}, ACL_INT64);
  const auto v2 = [&](aclTensor* to) {
    return RUN(s, aclnnMoeInitRoutingV2, x, ids, int64_t{0}, int64_t{0}, int64_t{3}, int64_t{0}, int64_t{2},
               false, expanded.tensor, places.tensor, to, nullptr);
  };
  expect_ok(v2(counts.tensor));
  expect_refused(v2(wide.tensor), kInvalid, "dtype INT64");
  expect_ok(RUN(s, aclnnCast, counts.tensor, ACL_INT64, wide.tensor));
  finish(wide.tensor);
}

TEST_F(Routing, AGroupListOfTheOtherKindIsToldWhenSynchronised) {
  const Out counts = out({3}, ACL_INT64), y = out({6, 1}, ACL_BF16);
  expect_ok(route(counts.tensor, {0, 3}));
  aclTensor* w = s.tensor(s.upload_bf16({1, 10, 100}), {3, 1, 1}, ACL_BF16);
  aclTensor* sums = s.tensor(s.upload<int64_t>({2, 4, 6}), {3}, ACL_INT64);  // given as counts
  expect_ok(RUN(s, aclnnGroupedMatmulV5, s.list(expanded.tensor), s.list(w), nullptr, nullptr, nullptr,
                nullptr, nullptr, nullptr, sums, nullptr, nullptr, nullptr, int64_t{2}, int64_t{0},
                int64_t{1}, int64_t{0}, nullptr, s.list(y.tensor), nullptr, nullptr));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("the groups have 12 rows, x has 6"));
}

}  // namespace
}  // namespace cann_test
