// The other operators: a right call gives the right numbers, and each rule broken once is refused.

#include "sim/operators.h"

#include <array>
#include <cmath>

namespace cann_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

TEST_F(Operators, MmTakesTransposedViews) {
  const Out o = out({2, 3});
  aclTensor* x = floats({1, 2, 3, 4}, {2, 2});
  // W [3, 2] as stored; its transpose [2, 3] is a view.
  aclTensor* w = s.tensor(s.upload<float>({1, 10, 2, 20, 3, 30}), {2, 3}, ACL_FLOAT,
                          {.strides = {1, 2}, .storage = {3, 2}});
  expect_ok(RUN(s, aclnnMm, x, w, o.tensor, int8_t{0}));
  EXPECT_THAT(result(o), ElementsAre(21, 42, 63, 43, 86, 129));
  expect_refused(RUN(s, aclnnMm, w, w, o.tensor, int8_t{0}), kInvalid, "inner dims disagree");
  expect_refused(RUN(s, aclnnMm, x, w, x, int8_t{0}), kInvalid, "must have dims [2, 3]");
  expect_refused(RUN(s, aclnnMm, x, w, o.tensor, int8_t{5}), kInvalid, "cubeMathType");
  aclTensor* half = s.tensor(s.allocate(8), {2, 2}, ACL_BF16);
  expect_refused(RUN(s, aclnnMm, half, w, o.tensor, int8_t{0}), kInvalid, "must be the same");
}

TEST_F(Operators, MmRoundsOnceToBf16) {
  const float third = 1.0f / 3;
  void* data = s.allocate(2);
  aclTensor* x = s.tensor(s.upload_bf16({third, third, third}), {1, 3}, ACL_BF16);
  aclTensor* w = s.tensor(s.upload_bf16({1, 1, 1}), {3, 1}, ACL_BF16);
  expect_ok(RUN(s, aclnnMm, x, w, s.tensor(data, {1, 1}, ACL_BF16), int8_t{0}));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(s.download_bf16(data, 1)[0], from_bf16(bf16(3 * from_bf16(bf16(third)))));
}

TEST_F(Operators, RmsNorm) {
  const Out y = out({2, 2}), rstd = out({2, 1});
  aclTensor* x = floats({3, 4, 0, 2}, {2, 2});
  aclTensor* gamma = floats({1, 2}, {2});
  expect_ok(RUN(s, aclnnRmsNorm, x, gamma, 0.0, y.tensor, rstd.tensor));
  const float a = 1 / std::sqrt(12.5f), b = 1 / std::sqrt(2.0f);
  EXPECT_THAT(result(y), Pointwise(NearFloat(), std::vector<float>{3 * a, 8 * a, 0, 4 * b}));
  EXPECT_THAT(result(rstd), Pointwise(NearFloat(), std::vector<float>{a, b}));
  expect_refused(RUN(s, aclnnRmsNorm, x, gamma, 0.0, y.tensor, nullptr), ACLNN_ERR_PARAM_NULLPTR, "rstdOut");
  expect_refused(RUN(s, aclnnRmsNorm, x, gamma, 0.0, x, rstd.tensor), kInvalid, "overlaps");
  expect_refused(RUN(s, aclnnRmsNorm, x, floats({1}, {1}), 0.0, y.tensor, rstd.tensor), kInvalid, "gamma");
  aclTensor* gapped = s.tensor(s.allocate(64), {2, 2}, ACL_FLOAT, {.strides = {4, 1}, .storage = {2, 4}});
  expect_refused(RUN(s, aclnnRmsNorm, gapped, gamma, 0.0, y.tensor, rstd.tensor), kInvalid, "contiguous");
}

TEST_F(Operators, AddRmsNormInBothForms) {
  const Out y = out({1, 2}), rstd = out({1, 1}), x = out({1, 2});
  aclTensor* gamma = floats({1, 1}, {2});
  expect_ok(RUN(s, aclnnAddRmsNorm, floats({1, 2}, {1, 2}), floats({2, 2}, {1, 2}), gamma, 0.0, y.tensor,
                rstd.tensor, x.tensor));
  const float a = 1 / std::sqrt(12.5f);
  EXPECT_THAT(result(y), Pointwise(NearFloat(), std::vector<float>{3 * a, 4 * a}));
  EXPECT_THAT(result(x), ElementsAre(3, 4));
  void *x1 = s.upload<float>({1, 2}), *x2 = s.upload<float>({2, 2});
  expect_ok(RUN(s, aclnnInplaceAddRmsNorm, s.tensor(x1, {1, 2}, ACL_FLOAT), s.tensor(x2, {1, 2}, ACL_FLOAT),
                gamma, 0.0, rstd.tensor));
  ASSERT_EQ(s.sync(), 0);
  EXPECT_THAT(s.download<float>(x1, 2), Pointwise(NearFloat(), std::vector<float>{3 * a, 4 * a}));
  EXPECT_THAT(s.download<float>(x2, 2), ElementsAre(3, 4));
}

TEST_F(Operators, RotaryTurnsHalves) {
  const Out o = out({1, 1, 1, 4});
  aclTensor* x = floats({1, 2, 3, 4}, {1, 1, 1, 4});
  aclTensor *cos = floats({0, 1, 0, 1}, {1, 1, 1, 4}), *sin = floats({1, 0, 1, 0}, {1, 1, 1, 4});
  expect_ok(RUN(s, aclnnRotaryPositionEmbedding, x, cos, sin, int64_t{0}, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(-3, 2, 1, 4));
  expect_refused(RUN(s, aclnnRotaryPositionEmbedding, x, cos, sin, int64_t{2}, o.tensor), kInvalid, "mode 2");
  aclTensor* narrow = floats({0, 1}, {1, 1, 1, 2});
  expect_refused(RUN(s, aclnnRotaryPositionEmbedding, x, narrow, sin, int64_t{0}, o.tensor), kInvalid,
                 "wide");
  aclTensor* flat = floats({1, 2, 3, 4}, {1, 4});
  expect_refused(RUN(s, aclnnRotaryPositionEmbedding, flat, cos, sin, int64_t{0}, o.tensor), kInvalid,
                 "dims");
}

TEST_F(Operators, RotaryHasLimits) {
  const auto rotate = [&](std::vector<int64_t> dims, int64_t mode = 0) {
    int64_t count = 1;
    for (const int64_t d : dims) count *= d;
    aclTensor* x = s.tensor(s.allocate(static_cast<size_t>(count) * 4), dims, ACL_FLOAT);
    aclTensor* angles = s.tensor(s.allocate(static_cast<size_t>(dims[3]) * 4), {1, 1, 1, dims[3]}, ACL_FLOAT);
    return RUN(s, aclnnRotaryPositionEmbedding, x, angles, angles, mode, out(dims).tensor);
  };
  expect_refused(rotate({1, 1, 1, 5}), kInvalid, "D = 5 must be even");
  expect_refused(rotate({1, 1, 1, 896}), kInvalid, "below 896");
  expect_refused(rotate({1000, 1, 1, 2}), kInvalid, "B and N of [1000, 1, 1, 2]");
  expect_refused(rotate({1, 1, 1000, 2}), kInvalid, "B and N of [1, 1, 1000, 2]");
  expect_refused(rotate({1, 1, 1, 5}, 1), kInvalid, "D = 5 must be even");
  expect_ok(rotate({1000, 1, 1, 2}, 1));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION) << "nothing was written";
  s.error();
}

TEST_F(Operators, RotaryTurnsNeighbours) {
  const Out o = out({1, 1, 2, 4});
  aclTensor* x = floats({1, 2, 3, 4, 5, 6, 7, 8}, {1, 1, 2, 4});
  aclTensor *cos = floats({0, 0, 2, 2}, {1, 1, 1, 4}), *sin = floats({1, 1, 0, 1}, {1, 1, 1, 4});
  expect_ok(RUN(s, aclnnRotaryPositionEmbedding, x, cos, sin, int64_t{1}, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(-2, 1, 6, 11, -6, 5, 14, 23));
}

TEST_F(Operators, ApplyRotaryWantsAnglesOfEveryRow) {
  const auto rows = [&](int64_t b, int64_t n, int64_t heads) {
    return s.tensor(s.allocate(static_cast<size_t>(b * n * heads) * 512), {b, n, heads, 128}, ACL_FLOAT);
  };
  char half[] = "half";
  const auto apply = [&](aclTensor* angles) {
    return RUN(s, aclnnApplyRotaryPosEmbV2, rows(2, 3, 4), rows(2, 3, 1), angles, angles, int64_t{1}, half);
  };
  expect_refused(apply(rows(1, 3, 1)), kInvalid, "must have dims [2, 3, 1, 128]");
  expect_refused(apply(rows(2, 1, 1)), kInvalid, "must have dims [2, 3, 1, 128]");
  expect_refused(apply(rows(2, 3, 4)), kInvalid, "must have dims [2, 3, 1, 128]");
  expect_ok(apply(rows(2, 3, 1)));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION) << "nothing was written";
  s.error();
}

TEST_F(Operators, ApplyRotaryIsInPlace) {
  std::vector<float> values(128);
  for (size_t i = 0; i < 128; ++i) values[i] = static_cast<float>(i);
  void *q = s.upload(values), *k = s.upload(values);
  aclTensor* tq = s.tensor(q, {1, 1, 1, 128}, ACL_FLOAT);
  aclTensor* tk = s.tensor(k, {1, 1, 1, 128}, ACL_FLOAT);
  aclTensor *cos = floats(std::vector<float>(128, 0), {1, 1, 1, 128}),
            *sin = floats(std::vector<float>(128, 1), {1, 1, 1, 128});
  char half[] = "half", other[] = "interleave";
  expect_ok(RUN(s, aclnnApplyRotaryPosEmbV2, tq, tk, cos, sin, int64_t{1}, half));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(s.download<float>(q, 128)[0], -64);
  EXPECT_EQ(s.download<float>(k, 128)[64], 0);
  expect_refused(RUN(s, aclnnApplyRotaryPosEmbV2, tq, tk, cos, sin, int64_t{4}, half), kInvalid, "layout 4");
  expect_refused(RUN(s, aclnnApplyRotaryPosEmbV2, tq, tk, cos, sin, int64_t{1}, other), kInvalid, "half");
}

TEST_F(Operators, SwiGluAndSiluAndSoftmax) {
  const auto silu = [](float x) { return x / (1 + std::exp(-x)); };
  const Out o = out({1, 2}), same = out({1, 4});
  aclTensor* x = floats({1, -2, 3, 4}, {1, 4});
  expect_ok(RUN(s, aclnnSwiGlu, x, int64_t{-1}, o.tensor));
  EXPECT_THAT(result(o), Pointwise(NearFloat(), std::vector<float>{silu(1) * 3, silu(-2) * 4}));
  expect_ok(RUN(s, aclnnSilu, x, same.tensor));
  EXPECT_THAT(result(same), Pointwise(NearFloat(), std::vector<float>{silu(1), silu(-2), silu(3), silu(4)}));
  expect_ok(RUN(s, aclnnSoftmax, floats({0, 0, std::log(2.0f), -1000}, {1, 4}), int64_t{1}, same.tensor));
  EXPECT_THAT(result(same), Pointwise(NearFloat(), std::vector<float>{.25f, .25f, .5f, 0}));
  expect_refused(RUN(s, aclnnSwiGlu, x, int64_t{-1}, same.tensor), kInvalid, "must have dims [1, 2]");
  aclTensor* slice = s.tensor(s.allocate(64), {2, 4}, ACL_FLOAT, {.strides = {8, 1}, .storage = {2, 8}});
  expect_refused(RUN(s, aclnnSwiGlu, slice, int64_t{-1}, out({2, 2}).tensor), kInvalid, "contiguous");
}

TEST_F(Operators, SwiGluAndSoftmaxOfTheFirstDim) {
  const auto silu = [](float x) { return x / (1 + std::exp(-x)); };
  const Out o = out({1, 2}), same = out({2, 2});
  aclTensor* x = floats({1, -2, 3, 4}, {2, 2});
  expect_ok(RUN(s, aclnnSwiGlu, x, int64_t{0}, o.tensor));
  EXPECT_THAT(result(o), Pointwise(NearFloat(), std::vector<float>{silu(1) * 3, silu(-2) * 4}));
  const Out middle = out({2, 1, 2});
  aclTensor* deep = floats({1, -2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  expect_ok(RUN(s, aclnnSwiGlu, deep, int64_t{-2}, middle.tensor));
  EXPECT_THAT(result(middle), Pointwise(NearFloat(), std::vector<float>{silu(1) * 3, silu(-2) * 4,
                                                                        silu(5) * 7, silu(6) * 8}));
  expect_ok(RUN(s, aclnnSoftmax, floats({0, 0, std::log(3.0f), -1000}, {2, 2}), int64_t{-2}, same.tensor));
  EXPECT_THAT(result(same), Pointwise(NearFloat(), std::vector<float>{.25f, 1, .75f, 0}));
  expect_refused(RUN(s, aclnnSwiGlu, x, int64_t{2}, o.tensor), kInvalid, "dim 2 is outside 2 dims");
  expect_refused(RUN(s, aclnnSoftmax, x, int64_t{-3}, same.tensor), kInvalid, "dim -3 is outside 2 dims");
}

TEST_F(Operators, ElementwiseBroadcastsAndTakesSlices) {
  void* data = s.upload<float>({1, 2, 3, 4, 5, 6});
  aclTensor* right = s.tensor(data, {2, 2}, ACL_FLOAT, {.strides = {3, 1}, .offset = 1, .storage = {2, 3}});
  aclScalar* two = s.scalar(2);
  const Out o = out({2, 2});
  expect_ok(RUN(s, aclnnAdd, right, floats({10, 20}, {1, 2}), two, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(22, 43, 25, 46));
  expect_ok(RUN(s, aclnnMul, right, floats({2, 3}, {2, 1}), o.tensor));
  EXPECT_THAT(result(o), ElementsAre(4, 6, 15, 18));
  expect_ok(RUN(s, aclnnMuls, right, two, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(4, 6, 10, 12));
  expect_ok(RUN(s, aclnnInplaceAdd, right, floats({1, 1}, {2}), s.scalar(1)));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(data, 6), ElementsAre(1, 3, 4, 4, 6, 7))
      << "the first column is not the slice's";
  expect_refused(RUN(s, aclnnAdd, right, floats({1, 2, 3}, {3}), two, o.tensor), kInvalid, "broadcast");
  expect_refused(RUN(s, aclnnAdd, right, right, nullptr, o.tensor), ACLNN_ERR_PARAM_NULLPTR, "alpha");
  // Out is what both broadcast to, no more.
  aclTensor* row = floats({1, 2}, {1, 2});
  expect_refused(RUN(s, aclnnAdd, row, row, two, o.tensor), kInvalid, "is larger than what");
  expect_refused(RUN(s, aclnnMul, row, floats({1, 2}, {2}), o.tensor), kInvalid, "is larger than what");
  expect_refused(RUN(s, aclnnMul, right, row, out({1, 2, 2}).tensor), kInvalid, "is larger than what");
  expect_ok(RUN(s, aclnnMul, row, floats({2, 3}, {2, 1}), o.tensor));
  EXPECT_THAT(result(o), ElementsAre(2, 4, 3, 6));
}

TEST_F(Operators, SumsOfTwoDtypesAreFloat) {
  void* data = s.upload<float>({1, 0x1p-20f});
  aclTensor* to = s.tensor(data, {2}, ACL_FLOAT);
  aclTensor* half = s.tensor(s.upload_bf16({2, 1}), {2}, ACL_BF16);
  expect_ok(RUN(s, aclnnInplaceAdd, to, half, s.scalar(1)));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(data, 2), ElementsAre(3, 1 + 0x1p-20f));
  expect_refused(RUN(s, aclnnInplaceAdd, half, to, s.scalar(1)), kInvalid, "must be the same");
  expect_refused(
      RUN(s, aclnnInplaceAdd, to, s.tensor(s.upload<int32_t>({1, 1}), {2}, ACL_INT32), s.scalar(1)), kInvalid,
      "must be the same");
  const Out o = out({2});
  expect_ok(RUN(s, aclnnAdd, half, to, s.scalar(1), o.tensor));
  EXPECT_THAT(result(o), ElementsAre(5, 2 + 0x1p-20f));
}

TEST_F(Operators, CastAndCopyRoundToNearestEven) {
  const Out o = out({4}, ACL_BF16);
  aclTensor* x = floats({1.0f, 1.00390625f, 1.01171875f, -3.1415927f}, {4});
  expect_ok(RUN(s, aclnnCast, x, ACL_BF16, o.tensor));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download_bf16(o.data, 4), ElementsAre(1.0f, 1.0f, 1.015625f, -3.140625f));
  const Out back = out({4});
  expect_ok(RUN(s, aclnnInplaceCopy, back.tensor, o.tensor));
  EXPECT_THAT(result(back), ElementsAre(1.0f, 1.0f, 1.015625f, -3.140625f));
  const Out half = out({4}, ACL_FLOAT16);
  expect_ok(RUN(s, aclnnCast, floats({1, 65504, 1e-7f, 2049}, {4}), ACL_FLOAT16, half.tensor));
  expect_ok(RUN(s, aclnnCast, half.tensor, ACL_FLOAT, back.tensor));
  EXPECT_THAT(result(back), ElementsAre(1, 65504, 0x1p-23f, 2048));
  const Out wide = out({2}, ACL_INT64);
  expect_ok(RUN(s, aclnnCast, ints({-5, 7}, {2}), ACL_INT64, wide.tensor));
  EXPECT_THAT(result<int64_t>(wide), ElementsAre(-5, 7));
  expect_refused(RUN(s, aclnnCast, x, ACL_FLOAT16, o.tensor), kInvalid, "dtype says");
}

TEST_F(Operators, CatAndArgMax) {
  aclTensorList* list = s.list({floats({1, 2}, {2, 1}), floats({3, 4, 5, 6}, {2, 2})});
  const Out o = out({2, 3});
  expect_ok(RUN(s, aclnnCat, list, int64_t{1}, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(1, 3, 4, 2, 5, 6));
  const Out best = out({2}, ACL_INT32);
  expect_ok(RUN(s, aclnnArgMax, floats({1, 9, 9, 4, 3, 2}, {2, 3}), int64_t{1}, false, best.tensor));
  EXPECT_THAT(result<int32_t>(best), ElementsAre(1, 0));
  expect_refused(RUN(s, aclnnCat, list, int64_t{1}, out({2, 2}).tensor), kInvalid, "must have dims [2, 3]");
}

TEST_F(Operators, RowsByIndex) {
  const Out o = out({2, 2});
  aclTensor* table = floats({0, 1, 10, 11, 20, 21}, {3, 2});
  expect_ok(RUN(s, aclnnEmbedding, table, ints({2, 0}, {2}), o.tensor));
  EXPECT_THAT(result(o), ElementsAre(20, 21, 0, 1));
  expect_ok(RUN(s, aclnnIndexSelect, table, int64_t{0}, ints({1, 1}, {2}), o.tensor));
  EXPECT_THAT(result(o), ElementsAre(10, 11, 10, 11));
  void* cache = s.upload(std::vector<float>(6, 7));
  expect_ok(RUN(s, aclnnScatterNdUpdate, s.tensor(cache, {3, 2}, ACL_FLOAT), ints({2, 0}, {2, 1}),
                floats({1, 2, 3, 4}, {2, 2})));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(cache, 6), ElementsAre(3, 4, 7, 7, 1, 2));
  expect_ok(RUN(s, aclnnInplaceIndexCopy, s.tensor(cache, {3, 2}, ACL_FLOAT), int64_t{0}, ints({1}, {1}),
                floats({5, 6}, {1, 2})));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(cache, 6), ElementsAre(3, 4, 5, 6, 1, 2));
  expect_refused(RUN(s, aclnnScatterNdUpdate, s.tensor(cache, {3, 2}, ACL_FLOAT), ints({0, 1}, {2}),
                     floats({1, 2, 3, 4}, {2, 2})),
                 kInvalid, "2 to 8 dims");
  expect_refused(RUN(s, aclnnScatterNdUpdate, s.tensor(cache, {3, 2}, ACL_FLOAT), ints({0, 1}, {2, 1}),
                     s.tensor(s.upload_bf16({1, 2, 3, 4}), {2, 2}, ACL_BF16)),
                 kInvalid, "must be the same");
}

TEST_F(Operators, IndicesOutOfRangeAreToldWhenSynchronised) {
  expect_ok(RUN(s, aclnnEmbedding, floats({0, 1}, {1, 2}), ints({1}, {1}), out({1, 2}).tensor));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnEmbedding: indices[0] = 1 is outside 0..0"));
}

TEST_F(Operators, OneSlotWrittenTwiceIsTold) {
  expect_ok(
      RUN(s, aclnnScatterNdUpdate, floats({0, 0, 0}, {3, 1}), ints({1, 1}, {2, 1}), floats({1, 2}, {2, 1})));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnScatterNdUpdate: indices: row 1 comes twice"));
}

TEST_F(Operators, OneRowCopiedTwiceIsTold) {
  expect_ok(RUN(s, aclnnInplaceIndexCopy, floats({0, 0, 0}, {3, 1}), int64_t{0}, ints({2, 2}, {2}),
                floats({1, 2}, {2, 1})));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnInplaceIndexCopy: index: row 2 comes twice"));
}

TEST_F(Operators, ColumnsByIndex) {
  aclTensor *table = floats({1, 2, 3, 4, 5, 6}, {2, 3}), *index = ints({2, 0}, {2});
  const Out o = out({2, 2});
  expect_ok(RUN(s, aclnnIndexSelect, table, int64_t{-1}, index, o.tensor));
  EXPECT_THAT(result(o), ElementsAre(3, 1, 6, 4));
  void* cache = s.upload(std::vector<float>(6, 7));
  aclTensor* to = s.tensor(cache, {2, 3}, ACL_FLOAT);
  expect_ok(RUN(s, aclnnInplaceIndexCopy, to, int64_t{1}, index, floats({1, 2, 3, 4}, {2, 2})));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(cache, 6), ElementsAre(2, 7, 1, 4, 7, 3));
  expect_refused(RUN(s, aclnnIndexSelect, table, int64_t{2}, index, o.tensor), kInvalid, "dim 2 is outside");
  expect_refused(RUN(s, aclnnInplaceIndexCopy, to, int64_t{0}, index, floats({1, 2, 3, 4}, {2, 2})), kInvalid,
                 "must have dims [2, 3]");
  expect_ok(RUN(s, aclnnIndexSelect, table, int64_t{1}, ints({3}, {1}), out({2, 1}).tensor));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("index[0] = 3 is outside 0..2"));
}

TEST_F(Operators, ScatterOfDeepIndices) {
  void* cache = s.upload(std::vector<float>(8, 7));
  aclTensor* to = s.tensor(cache, {2, 2, 2}, ACL_FLOAT);
  expect_ok(RUN(s, aclnnScatterNdUpdate, to, ints({1, 0, 0, 1}, {2, 2}), floats({1, 2, 3, 4}, {2, 2})));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(cache, 8), ElementsAre(7, 7, 3, 4, 1, 2, 7, 7));
  expect_ok(RUN(s, aclnnScatterNdUpdate, to, ints({1, 1, 1, 0, 0, 1}, {2, 1, 3}), floats({5, 6}, {2, 1})));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(s.download<float>(cache, 8), ElementsAre(7, 6, 3, 4, 1, 2, 7, 5));
  expect_refused(RUN(s, aclnnScatterNdUpdate, to, ints({0, 0, 0, 0}, {1, 4}), floats({1}, {1})), kInvalid,
                 "the last dim must be 1 to 3");
  expect_refused(RUN(s, aclnnScatterNdUpdate, to, ints({0, 0}, {1, 2}), floats({1, 2, 3, 4}, {1, 2, 2})),
                 kInvalid, "must have dims [1, 2]");
  expect_ok(RUN(s, aclnnScatterNdUpdate, to, ints({1, 2}, {1, 2}), floats({1, 2}, {1, 2})));
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("indices[1] = 2 is outside 0..1"));
}

TEST(Symbols, ComeAndGoWithTheRelease) {
  constexpr const char* kReleases[] = {"8.1", "8.3", "8.5", "9.0"};
  const std::vector<std::pair<const char*, std::array<bool, 4>>> symbols = {
      {"aclnnMoeInitRoutingV2", {true, true, true, true}},
      {"aclnnMoeInitRoutingV3", {false, true, true, true}},
      {"aclnnGroupedMatmulV4", {true, true, true, false}},
      {"aclnnGroupedMatmulV5", {false, false, true, true}},
      {"aclnnAttentionUpdate", {false, false, true, true}},
      {"HcclAllGatherV", {false, false, true, true}},
      {"HcclAllGather", {true, true, true, true}},
      {"aclsysGetVersionStr", {false, false, true, true}},
      {"aclsysGetCANNVersion", {true, true, true, false}},
      {"aclnnFusedInferAttentionScoreV3", {true, true, true, true}}};
  for (const auto& [name, present] : symbols)
    for (size_t i = 0; i < std::size(kReleases); ++i)
      EXPECT_EQ(Cann::of(kReleases[i]).find(name) != nullptr, present[i]) << name << " in " << kReleases[i];
}

}  // namespace
}  // namespace cann_test
