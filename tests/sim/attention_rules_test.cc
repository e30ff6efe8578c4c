// Every rule of the simulator's fused attention, broken one by one.

#include "sim/attention_problem.h"

namespace cann_test {
namespace {

const std::vector<Broken>& broken_calls() {
  static const std::vector<Broken> all = {
      {"PaddedQueryRows",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({5, 6, 15, 17});
       },
       kTiling, "queryT(18) must be equal to the last element"},
      {"LengthsNotCumulative",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({5, 1, 9, 3});
       },
       kTiling, "running sums"},
      {"AnEntryWithoutRows",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({5, 5, 15, 18});
       },
       kTiling, "leave it out"},
      {"CountsDiffer",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 257, 9});
       },
       kTiling, "4 entries, actualSeqLengthsKv has 3"},
      {"NoQueryLengths", [](Session&, auto& a) { a.q_ends = nullptr; }, kTiling, "mandatory"},
      {"EmptyLengths",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({});
         a.kv_lengths = s.integers({});
       },
       kTiling, "mandatory"},
      {"MoreQueriesThanKeys",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 257, 8, 300});
       },
       kTiling, "9 query rows and 8 keys"},
      {"CumulativeKvLengths",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 387, 396, 696});
       },
       kTiling, "the longest sequence has 696 keys"},
      {"MoreEntriesThan4096",
       [](Session& s, auto& a) {
         std::vector<int64_t> ends(4097, 18);
         for (int64_t i = 0; i < 17; ++i) ends[i] = i + 1;
         a.q_ends = s.integers(ends);
         a.kv_lengths = s.integers(std::vector<int64_t>(4097, 18));
       },
       kTiling, "4096 at most"},
      {"NoMask", [](Session&, auto& a) { a.mask = nullptr; }, kInvalid, "needs the compressed attenMask"},
      {"MaskOfFullSize",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.upload(std::vector<int8_t>(18 * 300)), {18, 300}, ACL_INT8);
       },
       kTiling, "must be [2048, 2048]"},
      {"MaskOfFloats",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(64), {4, 4}, ACL_FLOAT);
       },
       kInvalid, "dtype FLOAT"},
      {"MaskInModeZero", [](Session&, auto& a) { a.sparse_mode = 0; }, kTiling, "must be null in TND"},
      {"ModeTwo", [](Session&, auto& a) { a.sparse_mode = 2; }, kTiling, "TND takes 0, 3 and 4"},
      {"InnerPreciseOne", [](Session&, auto& a) { a.inner_precise = 1; }, kTiling, "innerPrecise 1"},
      {"PageOf64", [](Session&, auto& a) { a.block_size = 64; }, kTiling, "multiple of 128"},
      {"PageSizeOfTheCacheDiffers", [](Session&, auto& a) { a.block_size = 256; }, kInvalid,
       "blockSize says 256"},
      {"TableOfAnotherBatch",
       [](Session& s, auto& a) {
         a.block_table = s.tensor(s.upload(std::vector<int32_t>(6)), {2, 3}, ACL_INT32);
       },
       kTiling, "2 rows, there are 4 sequences"},
      {"TableOfInt64",
       [](Session& s, auto& a) {
         a.block_table = s.tensor(s.upload(std::vector<int64_t>(12)), {4, 3}, ACL_INT64);
       },
       kInvalid, "blockTable has dtype INT64"},
      {"HeadsOfTheQueryDiffer", [](Session&, auto& a) { a.heads = 4; }, kTiling, "numHeads says 4"},
      {"HeadsDontDivide", [](Session&, auto& a) { a.kv_heads = 3; }, kTiling, "must be a multiple of"},
      {"AnotherLayout", [](Session&, auto& a) { a.layout = "NTD_TND"; }, kInvalid,
       "knows BSH, BSND, BNSD and TND only"},
      {"PseShift", [](Session& s, auto& a) { a.pse = s.tensor(s.allocate(64), {4}, ACL_FLOAT); }, kInvalid,
       "pseShift must be null"},
      {"QueryOfTwoDims",
       [](Session& s, auto& a) {
         a.query = s.tensor(s.allocate(18 * 1024 * 2), {18, 1024}, ACL_BF16);
       },
       kInvalid, "3 to 3 dims"},
      {"QueryOfFloat",
       [](Session& s, auto& a) {
         a.query = s.tensor(s.allocate(18 * 1024 * 4), {18, 8, 128}, ACL_FLOAT);
       },
       kInvalid, "dtype FLOAT"},
      {"QueryNotContiguous",
       [](Session& s, auto& a) {
         a.query = s.tensor(s.allocate(18 * 2048 * 2), {18, 8, 128}, ACL_BF16,
                            {.strides = {2048, 128, 1}, .storage = {18, 2048}});
       },
       kInvalid, "must be contiguous"},
      {"QueryOnAnOddAddress",
       [](Session& s, auto& a) {
         a.query = s.tensor(static_cast<char*>(s.allocate(18 * 1024 * 2 + 64)) + 2, {18, 8, 128}, ACL_BF16);
       },
       kInvalid, "aligned to 32 bytes"},
      {"QueryIsNull", [](Session&, auto& a) { a.query = nullptr; }, ACLNN_ERR_PARAM_NULLPTR, "query is null"},
      {"OutputOfAnotherShape",
       [](Session& s, auto& a) {
         a.out = s.tensor(s.allocate(18 * 1024 * 2), {18, 1024}, ACL_BF16);
       },
       kInvalid, "must have dims [18, 8, 128]"},
      {"OutputIsTheQuery", [](Session&, auto& a) { a.out = a.query; }, kInvalid, "overlaps"},
      {"LseOfAnotherShape",
       [](Session& s, auto& a) {
         a.lse = s.tensor(s.allocate(18 * 8 * 4), {18, 8}, ACL_FLOAT);
       },
       kInvalid, "must have dims [18, 8, 1]"},
      {"MoreThan64QueriesAKey",
       [](Session& s, auto& a) {
         a.heads = 65 * a.kv_heads;
         a.query = half(s, {18, a.heads, 128});
       },
       kTiling, "64 times it at most"},
      {"MoreThan256Heads",
       [](Session& s, auto& a) {
         a.heads = 260;
         a.query = half(s, {18, a.heads, 128});
       },
       kTiling, "numHeads 260 is outside 1..256"},
      {"MoreThan65535Columns",
       [](Session& s, auto& a) {
         a.key = s.list(half(s, {1, 128, 65536}));
         a.value = s.list(half(s, {1, 128, 65536}));
       },
       kTiling, "must be at most 65535"},
      {"MoreThanAMillionQueries",
       [](Session& s, auto& a) {
         a.heads = a.kv_heads = 1;
         a.query = half(s, {(1 << 20) + 1, 1, 128});
       },
       kTiling, "query has 1048577 tokens"},
      {"TwoKeys",
       [](Session& s, auto& a) {
         a.key = s.list({half(s, {1, 128, 256}), half(s, {1, 128, 256})});
       },
       kInvalid, "key must be a list of one"},
      {"NoValues", [](Session&, auto& a) { a.value = nullptr; }, ACLNN_ERR_PARAM_NULLPTR, "value is null"},
      {"ValuesWithOtherBlocks",
       [](Session& s, auto& a) {
         a.value = s.list(half(s, {99, 128, a.kv_heads * 128}));
       },
       kTiling, "blocks, value has 99"},
      {"ColumnsThatAreNoHeads",
       [](Session& s, auto& a) {
         a.kv_heads = 2;
         a.key = s.list(half(s, {9, 128, 257}));
       },
       kTiling, "is not numKeyValueHeads"},
      {"PagesByHeadOfOtherHeads",
       [](Session& s, auto& a) {
         a.key = s.list(half(s, {7, a.kv_heads + 1, 128, 128}));
       },
       kTiling, "heads, numKeyValueHeads says"},
      {"PagesInTwoLayouts",
       [](Session& s, auto& a) {
         a.value = s.list(half(s, {7, a.kv_heads, 128, 128}));
       },
       kInvalid, "must have one layout of pages"},
      {"PageOf640", [](Session&, auto& a) { a.block_size = 640; }, kTiling, "up to 512"},
      {"KeysOfAnotherHeadDim",
       [](Session& s, auto& a) {
         a.query = half(s, {18, a.heads, 64});
       },
       kTiling, "queryD(64) and keyD(128) must be equal"},
      {"KeysOfAnotherType",
       [](Session& s, auto& a) {
         a.key = s.list(s.tensor(s.allocate(7 * 128 * 256 * 2), {7, 128, 256}, ACL_FLOAT16));
       },
       kInvalid, "must be the same"},
      {"TableOfOneDim",
       [](Session& s, auto& a) {
         a.block_table = s.tensor(s.upload(std::vector<int32_t>(12)), {12}, ACL_INT32);
       },
       kInvalid, "2 to 2 dims"},
      {"AntiquantScale",
       [](Session& s, auto& a) { a.antiquant_scale = s.tensor(s.allocate(64), {4}, ACL_FLOAT); }, kInvalid,
       "antiquantScale must be null"},
      {"AntiquantMode", [](Session&, auto& a) { a.key_antiquant_mode = 1; }, kInvalid,
       "antiquant modes must be 0"},
      {"NoLayout", [](Session&, auto& a) { a.layout.reset(); }, ACLNN_ERR_PARAM_NULLPTR,
       "inputLayout is null"},
      {"LseThatNobodyWants", [](Session&, auto& a) { a.wants_lse = false; }, kInvalid, "must have dims [0]"},
      {"RowsWithoutRunningSums",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 257, 9, 300});
       },
       kTiling, "without pages they are running sums", Keys::kRows},
      {"RowsOfAnotherNumber",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 387, 396, 695});
       },
       kTiling, "keyT(696) must be equal to the last element", Keys::kRows},
      {"RowsOfOtherHeads",
       [](Session& s, auto& a) {
         a.key = s.list(half(s, {696, a.kv_heads + 1, 128}));
       },
       kTiling, "heads, numKeyValueHeads says", Keys::kRows},
      {"OtherRowsOfValues",
       [](Session& s, auto& a) {
         a.value = s.list(half(s, {697, a.kv_heads, 128}));
       },
       kTiling, "key has 696 rows, value has 697", Keys::kRows},
      {"MoreThanAMillionRows",
       [](Session& s, auto& a) {
         const int64_t rows = (1 << 20) + 1;
         a.key = s.list(half(s, {rows, a.kv_heads, 128}));
         a.value = s.list(half(s, {rows, a.kv_heads, 128}));
         a.kv_lengths = s.integers({130, 387, 396, rows});
       },
       kTiling, "key has 1048577 tokens", Keys::kRows},
      {"LseIsMissing", [](Session&, auto& a) { a.lse = nullptr; }, kInvalid, "softmaxLse is null"},
  };
  return all;
}

class FusedAttentionRule : public testing::TestWithParam<Broken> {};

TEST_P(FusedAttentionRule, IsRefused) {
  expect_refused(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Rules, FusedAttentionRule, testing::ValuesIn(broken_calls()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace cann_test
