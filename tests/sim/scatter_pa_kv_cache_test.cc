// aclnnScatterPaKvCache in its two forms: rows of K and V to slots of pages.

#include "abi/scatter_pa_kv_cache.h"

#include <gmock/gmock.h>

#include "sim/operators.h"

namespace cann_test {
namespace {

using testing::HasSubstr;

constexpr const char* kDescribe = "aclnnScatterPaKvCacheGetWorkspaceSize";

class PageScatter : public testing::TestWithParam<const char*> {
 protected:
  // 3 tokens of 2 heads, K of 2 and V of 1, into 2 pages of 2 slots.
  struct Arguments {
    std::vector<int32_t> slots = {3, 0, 2};
    std::vector<int64_t> key_dims = {3, 2, 2}, cache_dims = {2, 2, 2, 2};
    aclDataType dtype = ACL_BF16;
    std::string cache_mode = "Norm", scatter_mode = "None";
    std::vector<int64_t> strides = {1, 1};
  };
  void SetUp() override {
    keys_ = s.upload_bf16({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    values_ = s.upload_bf16({-1, -2, -3, -4, -5, -6});
    key_cache_ = s.upload_bf16(std::vector<float>(16, 0));
    value_cache_ = s.upload_bf16(std::vector<float>(8, 0));
  }
  int run(const Arguments& a) {
    const aclTensor* key = s.tensor(keys_, a.key_dims, a.dtype);
    aclTensor* key_cache = s.tensor(key_cache_, a.cache_dims, ACL_BF16);
    const aclTensor* slots = s.tensor(s.upload(a.slots), {std::ssize(a.slots)}, ACL_INT32);
    const aclTensor* value = s.tensor(values_, {3, 2, 1}, ACL_BF16);
    aclTensor* value_cache = s.tensor(value_cache_, {2, 2, 2, 1}, ACL_BF16);
    std::string cache_mode = a.cache_mode, scatter_mode = a.scatter_mode;
    uint64_t workspace = 0;
    aclOpExecutor* executor = nullptr;
    const int status = old_form() ? cann.get<ScatterPaKvCache9>(kDescribe)(
                                        key, key_cache, slots, value, value_cache, nullptr, nullptr, nullptr,
                                        cache_mode.data(), &workspace, &executor)
                                  : cann.get<ScatterPaKvCache12>(kDescribe)(
                                        key, key_cache, slots, value, value_cache, nullptr, nullptr, nullptr,
                                        cache_mode.data(), scatter_mode.data(), s.integers(a.strides),
                                        s.integers({0, 0}), &workspace, &executor);
    return s.launch("aclnnScatterPaKvCache", status, workspace, executor);
  }
  bool old_form() const { return s.cann.release == "8.1"; }
  void expect_refused(const Arguments& a, const char* says) {
    EXPECT_EQ(run(a), kInvalid);
    EXPECT_THAT(s.error(), HasSubstr(says));
  }

  Session s{GetParam()};
  Cann& cann = s.cann;
  void *keys_ = nullptr, *values_ = nullptr, *key_cache_ = nullptr, *value_cache_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Releases, PageScatter, testing::Values("8.1", "8.5", "9.0"), [](const auto& info) {
  std::string name = info.param;
  name[1] = '_';
  return name;
});

TEST_P(PageScatter, RowsGoToTheirSlots) {
  ASSERT_EQ(run({}), 0) << s.error();
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(s.download_bf16(key_cache_, 16),
            (std::vector<float>{5, 6, 7, 8, 0, 0, 0, 0, 9, 10, 11, 12, 1, 2, 3, 4}));
  EXPECT_EQ(s.download_bf16(value_cache_, 8), (std::vector<float>{-3, -4, 0, 0, -5, -6, -1, -2}));
}

TEST_P(PageScatter, RulesAreKept) {
  expect_refused({.slots = {0, 1}}, "key has 3 rows, slotMapping 2");
  expect_refused({.key_dims = {3, 4, 1}}, "keyCacheRef must have dims [2, 2, 4, 1]");
  expect_refused({.key_dims = {3, 4}}, "key must have 3 to 3 dims");
  expect_refused({.cache_dims = {1, 2, 2, 2}}, "must have as many slots");
  expect_refused({.dtype = ACL_FLOAT}, "key has dtype FLOAT");
  expect_refused({.dtype = ACL_FLOAT16}, "they must be the same");
  expect_refused({.cache_mode = "PA_NZ"}, "the simulator knows 'Norm' only");
  if (old_form()) return;
  expect_refused({.scatter_mode = "Alibi"}, "scatterMode 'Alibi'");
  expect_refused({.strides = {2, 1}}, "strides must be 1, 1");
}

TEST_P(PageScatter, SlotsLieInThePagesAndComeOnce) {
  ASSERT_EQ(run({.slots = {0, 4, 1}}), 0) << s.error();
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("slotMapping[1] = 4 is outside 0..3"));
}

TEST_P(PageScatter, ASlotThatComesTwiceIsTold) {
  ASSERT_EQ(run({.slots = {1, 2, 1}}), 0) << s.error();
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("row 1 comes twice"));
}

}  // namespace
}  // namespace cann_test
