// Fused attention of the simulator: against PyTorch, and what it tells while it runs.

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "sim/attention_problem.h"

namespace cann_test {
namespace {

using testing::HasSubstr;

void expect_near(const std::vector<float>& actual, const json& expected, double relative, double absolute) {
  const size_t stride = goldens()["stride"];
  ASSERT_EQ((actual.size() + stride - 1) / stride, expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double wanted = expected[i];
    ASSERT_NEAR(actual[i * stride], wanted, relative * std::abs(wanted) + absolute)
        << "element " << i * stride;
  }
}

// One rounding to bf16 of sums in f32; the golden has six digits.
void expect_golden(Session& s, const Problem& p, const json& golden) {
  ASSERT_EQ(s.sync(), 0) << s.error();
  expect_near(p.outputs(s), golden["out"], 0x1p-8, 1e-5);
  expect_near(p.sums(s), golden["lse"], 2e-6, 2e-5);
}

bool in_tnd(const json& golden) {
  return !golden.contains("sparse") || golden["sparse"].contains("from_the_end");
}

TEST(FusedAttention, IsWhatPyTorchComputes) {
  int compared = 0;
  for (const char* release : {"8.1", "8.5", "9.0"}) {
    for (const auto& [name, golden] : goldens()["cases"].items()) {
      if (!in_tnd(golden)) continue;
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
        expect_golden(s, p, golden);
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 3 * (1 + 7 + 8));
}

class PaddedAttention : public testing::TestWithParam<const char*> {};

TEST_P(PaddedAttention, IsWhatPyTorchComputes) {
  const std::string layout = GetParam();
  int compared = 0;
  for (const char* release : {"8.1", "9.0"}) {
    for (const auto& [name, golden] : goldens()["cases"].items()) {
      if (golden["dim"] != golden["dim_v"]) continue;
      for (const Keys how : {Keys::kPages, Keys::kPagesByHead, Keys::kRows}) {
        if (how == Keys::kPagesByHead && layout != "BNSD") continue;
        SCOPED_TRACE(std::string(release) + ' ' + name);
        Session s(release);
        Problem p(s, name, golden, how, layout);
        ASSERT_EQ(run_attention(s, p.args), 0) << s.error();
        expect_golden(s, p, golden);
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 2 * 11 * (layout == "BNSD" ? 3 : 2));
}

INSTANTIATE_TEST_SUITE_P(Layouts, PaddedAttention, testing::Values("BSH", "BSND", "BNSD"),
                         [](const auto& info) { return std::string(info.param); });

// Two keys that a query of zeros sees alike: the mean of their values.
TEST(FusedAttention, Fp16IsANewerReleases) {
  constexpr uint16_t kOne = 0x3c00, kTwo = 0x4000, kThree = 0x4200;
  for (const auto& [release, code] :
       std::map<std::string, int>{{"8.5", ACLNN_ERR_INNER_TILING_ERROR}, {"9.0", 0}}) {
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
    if (code == 0) {
      EXPECT_EQ(s.download<uint16_t>(out, 64), std::vector<uint16_t>(64, kTwo));
    }
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
