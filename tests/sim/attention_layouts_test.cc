// Fused attention of the simulator beyond causal TND: bands, padded layouts, masks of every row and key.

#include <cmath>

#include "sim/attention_problem.h"

namespace cann_test {
namespace {

const json& golden(const char* name) {
  return goldens()["cases"][name];
}

void expect_same(Session& s, const Problem& p, const Problem& wanted) {
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(p.outputs(s), wanted.outputs(s));
  EXPECT_EQ(p.sums(s), wanted.sums(s));
}

const std::vector<Broken>& broken_layouts() {
  static const std::vector<Broken> all = {
      // Bands.
      {"BandWithoutAMask", [](Session&, auto& a) { a.mask = nullptr; }, kInvalid,
       "sparseMode 4 needs the compressed attenMask", Keys::kPages, "TND", "band"},
      {"BandWithAMaskOfEveryKey",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.upload(std::vector<int8_t>(58 * 260)), {58, 260}, ACL_INT8);
       },
       kTiling, "must be [2048, 2048]", Keys::kPages, "TND", "band"},
      {"BandThatBeginsBehindTheRows", [](Session&, auto& a) { a.before = -6; }, kTiling,
       "preTokens -6 is below -5, the query rows of entry 1", Keys::kPages, "TND", "band"},
      {"BandThatEndsBeforeTheKeys",
       [](Session&, auto& a) {
         a.before = 30;
         a.after = -21;
       },
       kTiling, "nextTokens -21 is below -20, the keys of entry 0", Keys::kPages, "TND", "band"},
      {"EmptyBand",
       [](Session&, auto& a) {
         a.before = 2;
         a.after = -3;
       },
       kTiling, "preTokens 2 and nextTokens -3 leave nothing between them", Keys::kPages, "TND", "band"},
      {"BandOfLatentValues",
       [](Session& s, auto& a) {
         a.sparse_mode = 4;
         a.kv_heads = a.heads;
         a.key = s.list(half(s, {1, 128, a.heads * 192}));
         a.value = s.list(half(s, {1, 128, a.heads * 192}));
         a.out = half(s, {6, a.heads, 192});
       },
       kTiling, "valueD(192) must be 64 or 128 in TND", Keys::kPages, "TND", "latent"},
      // Padded: shapes.
      {"BshOfFourDims",
       [](Session& s, auto& a) {
         a.query = half(s, {4, 9, 8, 128});
       },
       kInvalid, "3 to 3 dims", Keys::kPages, "BSH"},
      {"BshThatIsNoHeads",
       [](Session& s, auto& a) {
         a.query = half(s, {4, 9, 1025});
       },
       kTiling, "the last dim is not numHeads(8) * D", Keys::kPages, "BSH"},
      {"BsndOfThreeDims",
       [](Session& s, auto& a) {
         a.query = half(s, {4, 9, 1024});
       },
       kInvalid, "4 to 4 dims", Keys::kPages, "BSND"},
      {"BnsdGivenAsBsnd", [](Session&, auto& a) { a.layout = "BNSD"; }, kTiling,
       "has 9 heads, numHeads says 8", Keys::kPages, "BSND"},
      {"KeysOfOtherHeads",
       [](Session& s, auto& a) {
         a.key = s.list(half(s, {4, 2, 300, 128}));
       },
       kTiling, "has 2 heads, numKeyValueHeads says 1", Keys::kRows, "BNSD"},
      {"KeysOfOtherRequests",
       [](Session& s, auto& a) {
         a.key = s.list(half(s, {3, 300, 128}));
         a.value = s.list(half(s, {3, 300, 128}));
       },
       kTiling, "must have as many requests", Keys::kRows, "BSH"},
      {"ValuesOfAnotherLength",
       [](Session& s, auto& a) {
         a.value = s.list(half(s, {4, 301, 1, 128}));
       },
       kTiling, "must have the same dims", Keys::kRows, "BSND"},
      {"ValuesOfAnotherDim",
       [](Session& s, auto& a) {
         a.value = s.list(half(s, {4, 300, 1, 64}));
       },
       kTiling, "must have the same dims", Keys::kRows, "BSND"},
      {"HeadDimOf8",
       [](Session& s, auto& a) {
         a.query = half(s, {4, 9, 64});
         a.key = s.list(half(s, {4, 300, 8}));
         a.value = s.list(half(s, {4, 300, 8}));
       },
       kTiling, "head dim 8 must be a multiple of 16 up to 512", Keys::kRows, "BSH"},
      {"HeadDimOf528",
       [](Session& s, auto& a) {
         a.query = half(s, {4, 9, 8 * 528});
         a.key = s.list(half(s, {4, 300, 528}));
         a.value = s.list(half(s, {4, 300, 528}));
       },
       kTiling, "head dim 528", Keys::kRows, "BSH"},
      {"MoreThan65536Requests",
       [](Session& s, auto& a) {
         a.query = half(s, {65537, 2, 128});
         a.key = s.list(half(s, {65537, 1, 16}));
         a.value = s.list(half(s, {65537, 1, 16}));
       },
       kTiling, "query has 65537 requests", Keys::kRows, "BSH"},
      {"OutputOfTheOtherOrder",
       [](Session& s, auto& a) {
         a.out = half(s, {4, 9, 8, 128});
       },
       kInvalid, "must have dims [4, 8, 9, 128]", Keys::kPages, "BNSD"},
      {"LseInTheQuerysOrder",
       [](Session& s, auto& a) {
         a.lse = s.tensor(s.allocate(4 * 9 * 8 * 4), {4, 9, 8, 1}, ACL_FLOAT);
       },
       kInvalid, "must have dims [4, 8, 9, 1]", Keys::kPages, "BSND"},
      // Padded: lengths.
      {"LengthsOfTwoOfFour",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({5, 1});
       },
       kTiling, "actualSeqLengths has 2 entries for 4 requests", Keys::kPages, "BSND"},
      {"NoLengthsAtAll", [](Session& s, auto& a) { a.kv_lengths = s.integers({}); }, kTiling,
       "actualSeqLengthsKv has 0 entries for 4 requests", Keys::kRows, "BSND"},
      {"RunningSumsOfQueries",
       [](Session& s, auto& a) {
         a.q_ends = s.integers({5, 6, 15, 18});
       },
       kTiling, "actualSeqLengths[2] = 15 is outside 0..9", Keys::kPages, "BSND"},
      {"RunningSumsOfKeys",
       [](Session& s, auto& a) {
         a.kv_lengths = s.integers({130, 387, 396, 696});
       },
       kTiling, "actualSeqLengthsKv[1] = 387 is outside 0..300", Keys::kRows, "BNSD"},
      {"NegativeLength", [](Session& s, auto& a) { a.q_ends = s.integers({-1}); }, kTiling,
       "actualSeqLengths[0] = -1 is outside", Keys::kPages, "BSH"},
      {"PagesWithoutLengths", [](Session&, auto& a) { a.kv_lengths = nullptr; }, kTiling,
       "actualSeqLengthsKv is mandatory with blockTable", Keys::kPages, "BSND"},
      {"TableTooNarrow", [](Session& s, auto& a) { a.kv_lengths = s.integers({385}); }, kTiling,
       "the longest sequence has 385 keys", Keys::kPages, "BSND"},
      // Padded: pages.
      {"PagesByHead", [](Session&, auto&) {}, kTiling, "pages must be [blocks, block size, Nkv * D]",
       Keys::kPagesByHead, "BSND"},
      {"PageOf64", [](Session&, auto& a) { a.block_size = 64; }, kTiling,
       "must be a multiple of 128 up to 512", Keys::kPages, "BSND"},
      {"DecodePageOf24", [](Session&, auto& a) { a.block_size = 24; }, kTiling,
       "multiple of 16 up to 512 for one query row", Keys::kPages, "BSND", "decode"},
      {"DecodePageOf528", [](Session&, auto& a) { a.block_size = 528; }, kTiling,
       "multiple of 16 up to 512 for one query row", Keys::kPages, "BSND", "decode"},
      {"DecodePageOfManyElements", [](Session&, auto& a) { a.block_size = 272; }, kTiling,
       "blockSize 272 times D = 64 must be at most 16384", Keys::kPages, "BSND", "decode"},
      // Padded: modes and masks.
      {"ModeFive", [](Session&, auto& a) { a.sparse_mode = 5; }, kTiling, "sparseMode 5 must be 0 to 4",
       Keys::kPages, "BSND"},
      {"CausalWithoutAMask", [](Session&, auto& a) { a.mask = nullptr; }, kInvalid,
       "sparseMode 3 needs the compressed attenMask", Keys::kPages, "BSND"},
      {"LeftUpWithAFullMask",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.upload(std::vector<int8_t>(20 * 256)), {20, 256}, ACL_INT8);
       },
       kTiling, "must be [2048, 2048]", Keys::kPages, "BSND", "left_up"},
      {"AllMaskWithoutAMask", [](Session&, auto& a) { a.mask = nullptr; }, kInvalid,
       "sparseMode 1 needs an attenMask of every query row and key", Keys::kPages, "BSH", "masked"},
      {"AllMaskWithTheCompressedMask",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(kMaskSide * kMaskSide), {kMaskSide, kMaskSide}, ACL_INT8);
       },
       kTiling, "must be [Q_S, KV_S] = [7, 128]", Keys::kPages, "BSH", "masked"},
      {"MaskOfOneRow",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(50), {1, 1, 1, 50}, ACL_BOOL);
       },
       kTiling, "must be [Q_S, KV_S] = [7, 50]", Keys::kRows, "BNSD", "masked"},
      {"MaskOfShortRows",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(7 * 49), {7, 49}, ACL_BOOL);
       },
       kTiling, "must be [Q_S, KV_S] = [7, 50]", Keys::kRows, "BNSD", "masked"},
      {"MaskNotContiguous",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(7 * 64), {7, 50}, ACL_BOOL, {.strides = {64, 1}, .storage = {7, 64}});
       },
       kInvalid, "must be contiguous", Keys::kRows, "BNSD", "masked"},
      {"EmptyBandOfAMask", [](Session&, auto& a) { a.after = -6; }, kTiling, "leave nothing between them",
       Keys::kRows, "BNSD", "masked_band"},
      {"DecodeWithTheCompressedMask",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(kMaskSide * kMaskSide), {kMaskSide, kMaskSide}, ACL_INT8);
       },
       kTiling, "must be [B, KV_S] = [4, 200] for one query row a request", Keys::kRows, "BNSD", "decode"},
      {"DecodeMaskForAllRequests",
       [](Session& s, auto& a) {
         a.mask = s.tensor(s.allocate(200), {1, 200}, ACL_BOOL);
       },
       kTiling, "must be [B, KV_S] = [4, 200]", Keys::kRows, "BSH", "decode"},
      {"InnerPreciseFour", [](Session&, auto& a) { a.inner_precise = 4; }, kTiling,
       "innerPrecise 4 must be 0 to 3", Keys::kPages, "BSND"},
      {"DecodeInnerPreciseTwo", [](Session&, auto& a) { a.inner_precise = 2; }, kTiling,
       "innerPrecise 2 must be 0 or 1", Keys::kPages, "BSND", "decode"},
  };
  return all;
}

class AttentionLayoutRule : public testing::TestWithParam<Broken> {};

TEST_P(AttentionLayoutRule, IsRefused) {
  expect_refused(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Rules, AttentionLayoutRule, testing::ValuesIn(broken_layouts()),
                         [](const auto& info) { return std::string(info.param.name); });

// The band ends with the last key: the last two rows of each request see nothing.
TEST(AttentionBand, RowsThatSeeNothingAreZeroAndInfinite) {
  Session s("8.5");
  Problem p(s, "band", golden("band"), Keys::kPages);
  p.args.before = -2;
  ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
  ASSERT_EQ(s.sync(), 0) << s.error();
  const std::vector<float> out = p.outputs(s), lse = p.sums(s);
  int64_t row = 0;
  for (const int64_t count : p.row_counts) {
    for (int64_t i = 0; i < count; ++i, ++row) {
      const bool nothing = i >= count - 2;
      for (int64_t h = 0; h < p.heads; ++h) {
        const auto first = out.begin() + (row * p.heads + h) * p.dim_v;
        EXPECT_EQ(std::count(first, first + p.dim_v, 0.0f) == p.dim_v, nothing) << row << ' ' << h;
        EXPECT_EQ(lse[row * p.heads + h] == INFINITY, nothing) << row << ' ' << h;
      }
    }
  }
}

// Padded layouts take more query rows than keys in a causal call; TND does not.
TEST(PaddedAttentionRows, MayBeMoreThanKeys) {
  Session s("8.5");
  const json short_of_keys = {{"heads", 1},  {"kv_heads", 1},  {"dim", 64},
                              {"dim_v", 64}, {"causal", true}, {"sequences", {{5, 3}}}};
  Problem p(s, "short", short_of_keys, Keys::kRows, "BNSD");
  ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
  ASSERT_EQ(s.sync(), 0) << s.error();
  const std::vector<float> lse = p.sums(s);
  for (size_t i = 0; i < lse.size(); ++i) EXPECT_EQ(std::isinf(lse[i]), i < 2) << i;
}

TEST(AttentionBand, WithoutLimitsIsCausalOrEverything) {
  Session s("8.5");
  Problem causal(s, "segments", golden("segments"), Keys::kPages);
  Problem band(s, "segments", golden("segments"), Keys::kPages);
  band.args.sparse_mode = 4;
  band.args.after = 0;
  ASSERT_EQ(run_attention(s, causal.args), 0) << s.error();
  ASSERT_EQ(run_attention(s, band.args), 0) << s.error();
  expect_same(s, band, causal);

  Problem all(s, "not_causal", golden("not_causal"), Keys::kRows);
  Problem wide(s, "not_causal", golden("not_causal"), Keys::kRows);
  wide.args.sparse_mode = 4;
  wide.args.mask = s.tensor(s.upload(causal_mask()), {1, kMaskSide, kMaskSide}, ACL_INT8);
  wide.args.before = wide.args.after = INT64_MAX;
  ASSERT_EQ(run_attention(s, all.args), 0) << s.error();
  ASSERT_EQ(run_attention(s, wide.args), 0) << s.error();
  expect_same(s, wide, all);
}

TEST(PaddedLengths, OneForAllAndEntriesBehindTheLastRequest) {
  Session s("8.5");
  Problem each(s, "masked", golden("masked"), Keys::kRows, "BSND");
  Problem one(s, "masked", golden("masked"), Keys::kRows, "BSND");
  each.args.q_ends = s.integers({3, 3, 99});
  each.args.kv_lengths = s.integers({20, 20, -1});
  one.args.q_ends = s.integers({3});
  one.args.kv_lengths = s.integers({20});
  for (const Problem* p : {&each, &one}) ASSERT_EQ(run_attention(s, p->args), 0) << s.error();
  ASSERT_EQ(s.sync(), 0) << s.error();
  constexpr size_t kElements = 2 * 7 * 4 * 64;
  EXPECT_EQ(s.download_bf16(one.out, kElements), s.download_bf16(each.out, kElements));
}

TEST(PaddedLengths, AreTheDimsWhereNothingElseIsSaid) {
  Session s("8.5");
  const json whole = {{"heads", 4},  {"kv_heads", 2},  {"dim", 64},
                      {"dim_v", 64}, {"causal", true}, {"sequences", {{6, 40}, {6, 40}}}};
  Problem said(s, "whole", whole, Keys::kRows, "BNSD"), unsaid(s, "whole", whole, Keys::kRows, "BNSD");
  unsaid.args.q_ends = unsaid.args.kv_lengths = nullptr;
  ASSERT_EQ(run_attention(s, said.args), 0) << s.error();
  ASSERT_EQ(run_attention(s, unsaid.args), 0) << s.error();
  expect_same(s, unsaid, said);
}

// One query row a request: the sparse mode, its limits and the queries' lengths are not heeded.
TEST(PaddedDecode, TakesNoSparseMode) {
  Session s("8.5");
  Problem plain(s, "decode", golden("decode"), Keys::kPages, "BSND");
  Problem other(s, "decode", golden("decode"), Keys::kPages, "BSND");
  plain.args.sparse_mode = 0;
  other.args.sparse_mode = 4;
  other.args.before = -9;
  other.args.inner_precise = 1;
  other.args.q_ends = s.integers({0, 7});
  ASSERT_EQ(run_attention(s, plain.args), 0) << s.error();
  ASSERT_EQ(run_attention(s, other.args), 0) << s.error();
  expect_same(s, other, plain);
}

// Two keys in pages of 16 that a query of zeros sees alike: the mean of their values.
TEST(PaddedDecode, TakesSmallPages) {
  Session s("8.1");
  std::vector<float> values(16 * 64, NAN);
  std::fill_n(values.begin(), 64, 1.0f);
  std::fill_n(values.begin() + 64, 64, 3.0f);
  void* out = s.allocate(128);
  FusedAttentionArgs a;
  a.layout = "BSH";
  a.query = s.tensor(s.upload(std::vector<uint16_t>(64)), {1, 1, 64}, ACL_BF16);
  a.key = s.list(s.tensor(s.upload_bf16(values), {1, 16, 64}, ACL_BF16));
  a.value = s.list(s.tensor(s.upload_bf16(values), {1, 16, 64}, ACL_BF16));
  a.out = s.tensor(out, {1, 1, 64}, ACL_BF16);
  a.block_table = s.tensor(s.upload<int32_t>({0}), {1, 1}, ACL_INT32);
  a.kv_lengths = s.integers({2});
  a.heads = 1;  // kv_heads 0: as many
  a.block_size = 16;
  a.sparse_mode = 0;
  ASSERT_EQ(run_attention(s, a), 0) << s.error();
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(s.download_bf16(out, 64), std::vector<float>(64, 2.0f));
}

// One mask for all requests gives what its copies do.
TEST(PaddedMask, IsSharedWithoutABatch) {
  Session s("8.5");
  const json whole = {{"heads", 2},  {"kv_heads", 2},   {"dim", 64},
                      {"dim_v", 64}, {"causal", false}, {"sequences", {{5, 9}, {5, 9}}}};
  std::vector<uint8_t> mask(5 * 9);
  for (size_t i = 0; i < mask.size(); i += 2) mask[i] = 1;
  std::vector<uint8_t> twice = mask;
  twice.insert(twice.end(), mask.begin(), mask.end());
  Problem each(s, "shared", whole, Keys::kRows, "BSH");
  each.args.mask = s.tensor(s.upload(twice), {2, 5, 9}, ACL_UINT8);
  ASSERT_EQ(run_attention(s, each.args), 0) << s.error();
  const void* const data = s.upload(mask);
  for (const std::vector<int64_t>& dims :
       std::vector<std::vector<int64_t>>{{5, 9}, {1, 5, 9}, {1, 1, 5, 9}}) {
    Problem shared(s, "shared", whole, Keys::kRows, "BSH");
    shared.args.mask = s.tensor(const_cast<void*>(data), dims, ACL_UINT8);
    ASSERT_EQ(run_attention(s, shared.args), 0) << s.error();
    expect_same(s, shared, each);
  }
}

TEST(PaddedMask, OfOtherValuesIsToldWhenSynchronised) {
  Session s("8.5");
  Problem p(s, "masked", golden("masked"), Keys::kRows, "BSH");
  std::vector<int8_t> mask(7 * 50);
  mask[50 + 4] = 2;
  p.args.mask = s.tensor(s.upload(mask), {7, 50}, ACL_INT8);
  ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), testing::HasSubstr("element (1, 4) of request 0 is 2"));
}

}  // namespace
}  // namespace cann_test
