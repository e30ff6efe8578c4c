// Fused attention of the simulator: against PyTorch, and every rule broken once.

#include "sim/attention.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/named_values.h"

namespace cann_test {
namespace {

using longspan::testing_support::fnv1a64;
using longspan::testing_support::splitmix64;
using nlohmann::json;
using testing::HasSubstr;

// The formula of make_attention_goldens.py.
std::vector<float> values(const std::string& name, double factor, int64_t count) {
  const uint64_t start = fnv1a64(name);
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i)
    result.push_back(static_cast<float>(
        (static_cast<double>(splitmix64(start + static_cast<uint64_t>(i)) >> 40) * 0x1p-23 - 1.0) * factor));
  return result;
}

enum class Keys { kPages, kPagesByHead, kRows };

/// A golden case with its keys and values in pages (handed out backwards) or in rows.
class Problem {
 public:
  Problem(Session& s, const std::string& name, const json& c, Keys how) {
    const int64_t heads = c["heads"], kv_heads = c["kv_heads"], dim = c["dim"], dim_v = c["dim_v"];
    const auto sequences = c["sequences"].get<std::vector<std::vector<int64_t>>>();
    std::vector<int64_t> ends, lengths;
    std::vector<std::vector<float>> k, v;
    for (size_t i = 0; i < sequences.size(); ++i) {
      rows += sequences[i][0];
      ends.push_back(rows);
      keys.push_back(sequences[i][1]);
      lengths.push_back(how == Keys::kRows && i > 0 ? lengths.back() + keys[i] : keys[i]);
      k.push_back(values(name + "/k" + std::to_string(i), 1, keys[i] * kv_heads * dim));
      v.push_back(values(name + "/v" + std::to_string(i), 1, keys[i] * kv_heads * dim_v));
    }
    if (how == Keys::kRows) {
      args.key = s.list(in_rows(s, k, kv_heads, dim));
      args.value = s.list(in_rows(s, v, kv_heads, dim_v));
    } else {
      number_pages();
      args.key = s.list(in_pages(s, k, kv_heads, dim, how == Keys::kPagesByHead));
      args.value = s.list(in_pages(s, v, kv_heads, dim_v, how == Keys::kPagesByHead));
      const auto columns = static_cast<int64_t>(table.size() / keys.size());
      args.block_table = s.tensor(s.upload(table), {static_cast<int64_t>(keys.size()), columns}, ACL_INT32);
    }
    args.query =
        s.tensor(s.upload_bf16(values(name + "/q", 3, rows * heads * dim)), {rows, heads, dim}, ACL_BF16);
    args.q_ends = s.integers(ends);
    args.kv_lengths = s.integers(lengths);
    out = s.allocate(static_cast<size_t>(rows * heads * dim_v) * 2);
    lse = s.allocate(static_cast<size_t>(rows * heads) * 4);
    args.out = s.tensor(out, {rows, heads, dim_v}, ACL_BF16);
    args.lse = s.tensor(lse, {rows, heads, 1}, ACL_FLOAT);
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.scale = 1 / std::sqrt(static_cast<double>(dim));
    args.wants_lse = true;
    if (c["causal"])
      args.mask = s.tensor(s.upload(causal_mask()), {kMaskSide, kMaskSide}, ACL_INT8);
    else
      args.sparse_mode = 0;
  }

  FusedAttentionArgs args;
  int64_t rows = 0;
  void *out = nullptr, *lse = nullptr;

 private:
  static constexpr int64_t kPage = 128;

  void number_pages() {
    int64_t columns = 0;
    for (const int64_t n : keys) {
      columns = std::max(columns, (n + kPage - 1) / kPage);
      pages += (n + kPage - 1) / kPage;
    }
    int64_t next = pages;
    for (const int64_t n : keys)
      for (int64_t b = 0; b < columns; ++b)
        table.push_back(b < (n + kPage - 1) / kPage ? static_cast<int32_t>(--next) : 0x7fffffff);
  }

  aclTensor* in_rows(Session& s, const std::vector<std::vector<float>>& parts, int64_t heads, int64_t dim) {
    std::vector<float> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    const auto total = static_cast<int64_t>(all.size()) / (heads * dim);
    return s.tensor(s.upload_bf16(all), {total, heads, dim}, ACL_BF16);
  }

  aclTensor* in_pages(Session& s, const std::vector<std::vector<float>>& parts, int64_t heads, int64_t dim,
                      bool by_head) {
    std::vector<float> cache(static_cast<size_t>(pages * kPage * heads * dim), NAN);  // unused slots
    const size_t columns = table.size() / keys.size();
    for (size_t i = 0; i < keys.size(); ++i) {
      for (int64_t t = 0; t < keys[i]; ++t) {
        const int64_t page = table[i * columns + static_cast<size_t>(t / kPage)], in_page = t % kPage;
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t row =
              by_head ? (page * heads + h) * kPage + in_page : (page * kPage + in_page) * heads + h;
          for (int64_t d = 0; d < dim; ++d) cache[row * dim + d] = parts[i][(t * heads + h) * dim + d];
        }
      }
    }
    const std::vector<int64_t> dims = by_head ? std::vector<int64_t>{pages, heads, kPage, dim}
                                              : std::vector<int64_t>{pages, kPage, heads * dim};
    return s.tensor(s.upload_bf16(cache), dims, ACL_BF16);
  }

  std::vector<int64_t> keys;
  std::vector<int32_t> table;
  int64_t pages = 0;
};

const json& goldens() {
  static const json all = json::parse(std::ifstream(LONGSPAN_SOURCE_DIR "/tests/golden/attention.json"));
  return all;
}

void expect_near(const std::vector<float>& actual, const json& expected, double relative, double absolute) {
  const size_t stride = goldens()["stride"];
  ASSERT_EQ((actual.size() + stride - 1) / stride, expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double wanted = expected[i];
    ASSERT_NEAR(actual[i * stride], wanted, relative * std::abs(wanted) + absolute)
        << "element " << i * stride;
  }
}

TEST(FusedAttention, IsWhatPyTorchComputes) {
  int compared = 0;
  for (const char* release : {"8.1", "8.5", "9.0"}) {
    for (const auto& [name, golden] : goldens()["cases"].items()) {
      const int64_t dim = golden["dim"];
      const bool taken = dim == 192 || (release != std::string("8.1") && dim <= 128) ||
                         (release == std::string("9.0") && dim <= 256);
      for (const Keys how : {Keys::kPages, Keys::kPagesByHead, Keys::kRows}) {
        Session s(release);
        Problem p(s, name, golden, how);
        const int status = run_attention(s, p.args);
        if (!taken) {
          EXPECT_EQ(status, ACLNN_ERR_INNER_TILING_ERROR);
          EXPECT_THAT(s.error(), HasSubstr(release));
          continue;
        }
        ASSERT_EQ(status, 0) << release << ' ' << name << ": " << s.error();
        ASSERT_EQ(s.sync(), 0) << s.error();
        const size_t heads = golden["heads"], dim_v = golden["dim_v"], rows = static_cast<size_t>(p.rows);
        // One rounding to bf16 of sums in f32; the golden has six digits.
        expect_near(s.download_bf16(p.out, rows * heads * dim_v), golden["out"], 0x1p-8, 1e-5);
        expect_near(s.download<float>(p.lse, rows * heads), golden["lse"], 2e-6, 2e-5);
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 3 * (1 + 5 + 6));
}

/// A call that is right but for one thing.
struct Broken {
  const char* name;
  std::function<void(Session&, FusedAttentionArgs&)> change;
  int code;
  const char* says;
  Keys keys = Keys::kPages;
};

// Never written: for calls that phase 1 refuses.
aclTensor* half(Session& s, const std::vector<int64_t>& dims) {
  size_t bytes = 2;
  for (const int64_t d : dims) bytes *= static_cast<size_t>(d);
  return s.tensor(s.allocate(bytes), dims, ACL_BF16);
}

constexpr int kTiling = ACLNN_ERR_INNER_TILING_ERROR, kInvalid = ACLNN_ERR_PARAM_INVALID;

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
      {"ModeFour", [](Session&, auto& a) { a.sparse_mode = 4; }, kInvalid, "not in the simulator"},
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
      {"LayoutBsnd", [](Session&, auto& a) { a.layout = "BSND"; }, kInvalid, "knows TND only"},
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
       kTiling, "numHeads 260 is above 256"},
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
  Session s("8.5");
  Problem p(s, "segments", goldens()["cases"]["segments"], GetParam().keys);
  GetParam().change(s, p.args);
  EXPECT_EQ(run_attention(s, p.args), GetParam().code);
  EXPECT_THAT(s.error(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(Rules, FusedAttentionRule, testing::ValuesIn(broken_calls()),
                         [](const auto& info) { return std::string(info.param.name); });

// Two keys that a query of zeros sees alike: the mean of their values.
TEST(FusedAttention, Fp16IsANewerReleases) {
  constexpr uint16_t kOne = 0x3c00, kTwo = 0x4000, kThree = 0x4200;
  for (const auto& [release, code] : std::map<std::string, int>{{"8.5", kTiling}, {"9.0", 0}}) {
    Session s(release);
    FusedAttentionArgs a;
    std::vector<uint16_t> values(128 * 64);
    std::fill_n(values.begin(), 64, kOne);
    std::fill_n(values.begin() + 64, 64, kThree);
    void* out = s.allocate(128);
    a.query = s.tensor(s.upload(std::vector<uint16_t>(64)), {1, 1, 64}, ACL_FLOAT16);
    a.key = s.list(s.tensor(s.upload(values), {1, 128, 64}, ACL_FLOAT16));
    a.value = s.list(s.tensor(s.upload(values), {1, 128, 64}, ACL_FLOAT16));
    a.out = s.tensor(out, {1, 1, 64}, ACL_FLOAT16);
    a.block_table = s.tensor(s.upload<int32_t>({0}), {1, 1}, ACL_INT32);
    a.q_ends = s.integers({1});
    a.kv_lengths = s.integers({2});
    a.heads = a.kv_heads = 1;
    a.mask = s.tensor(s.upload(causal_mask()), {1, 1, kMaskSide, kMaskSide}, ACL_INT8);
    EXPECT_EQ(run_attention(s, a), code) << s.error();
    EXPECT_EQ(s.sync(), 0) << s.error();
    if (code == 0) EXPECT_EQ(s.download<uint16_t>(out, 64), std::vector<uint16_t>(64, kTwo));
  }
}

// What only the kernel sees is told by the next synchronisation.
TEST(FusedAttention, ARunningFaultIsToldWhenSynchronised) {
  Session s("8.5");
  Problem p(s, "segments", goldens()["cases"]["segments"], Keys::kPages);
  p.args.block_table = s.tensor(s.upload(std::vector<int32_t>(12, 99)), {4, 3}, ACL_INT32);
  ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("blockTable[0, 0] = 99 is outside"));
}

TEST(FusedAttention, AWrongMaskIsToldWhenSynchronised) {
  Session s("8.5");
  Problem p(s, "segments", goldens()["cases"]["segments"], Keys::kPages);
  std::vector<int8_t> mask = causal_mask();
  mask[5 * kMaskSide + 5] = 1;
  p.args.mask = s.tensor(s.upload(mask), {kMaskSide, kMaskSide}, ACL_INT8);
  ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("(5, 5) is 1"));
}

}  // namespace
}  // namespace cann_test
