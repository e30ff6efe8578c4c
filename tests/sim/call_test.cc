// The two phases: executors, workspaces, handles, and what a kernel finds when it runs late.

#include <gmock/gmock.h>

#include <thread>

#include "sim/cann.h"

namespace cann_test {
namespace {

using testing::HasSubstr;

class TwoPhases : public testing::Test {
 protected:
  Session s{"8.5"};
  Cann& cann = s.cann;
  void* a = s.upload<float>({1, 2, 3, 4});
  void* b = s.upload<float>({1, 1, 1, 1});
  void* c = s.allocate(16);
  aclTensor* ta = s.tensor(a, {2, 2}, ACL_FLOAT);
  aclTensor* tb = s.tensor(b, {2, 2}, ACL_FLOAT);
  aclTensor* tc = s.tensor(c, {2, 2}, ACL_FLOAT);
  uint64_t workspace = 0;
  aclOpExecutor* executor = nullptr;

  int describe() { return CANN(aclnnMmGetWorkspaceSize)(ta, tb, tc, 0, &workspace, &executor); }
  int run(void* scratch, uint64_t bytes) { return CANN(aclnnMm)(scratch, bytes, executor, s.stream); }
};

TEST_F(TwoPhases, ComputeAndConsumeTheExecutor) {
  ASSERT_EQ(describe(), 0) << s.error();
  void* scratch = s.allocate(workspace);
  ASSERT_EQ(run(scratch, workspace), 0) << s.error();
  EXPECT_EQ(run(scratch, workspace), ACLNN_ERR_INNER_NULLPTR);
  EXPECT_THAT(s.error(), HasSubstr("used before"));
  ASSERT_EQ(s.sync(), 0) << s.error();
  EXPECT_EQ(s.download<float>(c, 4), (std::vector<float>{3, 3, 7, 7}));
}

TEST_F(TwoPhases, NothingRunsBeforeAHostThreadWaits) {
  ASSERT_EQ(describe(), 0);
  void* scratch = s.allocate(workspace);
  ASSERT_EQ(run(scratch, workspace), 0);
  float host[4];
  EXPECT_EQ(CANN(aclrtMemcpy)(host, 16, c, 16, ACL_MEMCPY_DEVICE_TO_HOST), ACL_ERROR_RT_PARAM_INVALID)
      << "the product is not there yet";
  EXPECT_THAT(s.error(), HasSubstr("never written"));
}

TEST_F(TwoPhases, TheWorkspaceMustBeGiven) {
  ASSERT_EQ(describe(), 0);
  ASSERT_GT(workspace, 0u);
  void* scratch = s.allocate(workspace);
  EXPECT_EQ(run(nullptr, workspace), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(run(scratch, workspace - 1), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(run(c, workspace), ACLNN_ERR_PARAM_INVALID) << "an allocation that is too small";
  EXPECT_EQ(run(scratch, workspace), 0);
}

TEST_F(TwoPhases, TheWorkspaceIsNoOperandsAndOfThisDevice) {
  void* both = s.allocate(64 * 1024);
  tc = s.tensor(both, {2, 2}, ACL_FLOAT);
  ASSERT_EQ(describe(), 0);
  EXPECT_EQ(run(both, workspace), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("aclnnMm: workspace overlaps aclnnMm: out"));
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  void* elsewhere = s.allocate(workspace);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  EXPECT_EQ(run(elsewhere, workspace), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("workspace lies on device 1"));
  EXPECT_EQ(run(static_cast<char*>(both) + 1024, workspace), 0) << s.error();
}

// What is described on one device does not run on another's stream.
TEST_F(TwoPhases, TheStreamIsOfTheDeviceWhereTheCallWasDescribed) {
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  void* scratch = s.allocate(workspace);
  aclrtStream elsewhere = nullptr;
  ASSERT_EQ(CANN(aclrtCreateStream)(&elsewhere), 0);
  EXPECT_EQ(CANN(aclnnMm)(scratch, workspace, executor, elsewhere), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("aclnnMm: the executor was made on device 0, the stream is of device 1"));
  EXPECT_EQ(CANN(aclnnMm)(scratch, workspace, executor, s.stream), ACL_ERROR_RT_STREAM_CONTEXT);
  EXPECT_THAT(s.error(), HasSubstr("the stream belongs to device 0, this thread has device 1"));
  EXPECT_EQ(CANN(aclrtDestroyStream)(elsewhere), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  EXPECT_EQ(run(s.allocate(workspace), workspace), 0) << s.error();
}

TEST_F(TwoPhases, AWorkspaceFreedEarlyIsTold) {
  ASSERT_EQ(describe(), 0);
  void* scratch = s.allocate(workspace);
  ASSERT_EQ(run(scratch, workspace), 0);
  s.release(scratch);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("workspace"));
}

TEST_F(TwoPhases, AnInputFreedEarlyIsTold) {
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(run(s.allocate(workspace), workspace), 0);
  s.release(b);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnMm: mat2"));
}

TEST_F(TwoPhases, AnInputNeverWrittenIsTold) {
  tb = s.tensor(s.allocate(16), {2, 2}, ACL_FLOAT);
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(run(s.allocate(workspace), workspace), 0);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnMm: mat2: byte 0 of 16 was never written"));
}

TEST_F(TwoPhases, HandlesMayGoAfterPhaseTwoAndNotBefore) {
  ASSERT_EQ(describe(), 0);
  void* scratch = s.allocate(workspace);
  ASSERT_EQ(run(scratch, workspace), 0);
  ASSERT_EQ(describe(), 0);
  s.destroy_tensors();
  EXPECT_EQ(run(scratch, workspace), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("destroyed between"));
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), 0);
  EXPECT_EQ(s.sync(), 0) << s.error();
}

TEST_F(TwoPhases, AddressesStay) {
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(CANN(aclSetRawTensorAddr)(ta, b), 0);
  EXPECT_EQ(run(s.allocate(workspace), workspace), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("address was changed"));
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), 0);
}

TEST_F(TwoPhases, ARepeatableExecutorRunsAgain) {
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(CANN(aclSetAclOpExecutorRepeatable)(executor), 0);
  void* scratch = s.allocate(workspace);
  EXPECT_EQ(run(scratch, workspace), 0);
  EXPECT_EQ(run(scratch, workspace), 0);
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), 0);
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(s.sync(), 0) << s.error();
}

TEST_F(TwoPhases, AnExecutorThatNeverRunsIsALeak) {
  ASSERT_EQ(describe(), 0);
  EXPECT_THAT(CANN(cann_sim_leaks)(), HasSubstr("aclOpExecutor"));
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), 0);
}

TEST_F(TwoPhases, AnExecutorIsOfItsOperator) {
  ASSERT_EQ(describe(), 0);
  EXPECT_EQ(CANN(aclnnMatmul)(s.allocate(workspace), workspace, executor, s.stream), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(CANN(aclDestroyAclOpExecutor)(executor), 0);
}

TEST_F(TwoPhases, AThreadWithoutADeviceCannotDescribe) {
  int status = 0;
  std::thread([&] { status = describe(); }).join();
  EXPECT_EQ(status, ACLNN_ERR_RUNTIME_ERROR);
}

TEST_F(TwoPhases, OppPathIsNeeded) {
  unsetenv("ASCEND_OPP_PATH");
  EXPECT_EQ(describe(), ACLNN_ERR_INNER_OPP_PATH_NOT_FOUND);
  EXPECT_THAT(s.error(), HasSubstr("ASCEND_OPP_PATH"));
}

TEST_F(TwoPhases, TensorsOfAnotherDeviceAreRefused) {
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  EXPECT_EQ(describe(), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("lies on device 0, this thread has device 1"));
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
}

TEST_F(TwoPhases, TensorsAreBounded) {
  const int64_t dims[] = {2, 3}, strides[] = {3, 1}, storage[] = {5};
  EXPECT_EQ(CANN(aclCreateTensor)(dims, 2, ACL_FLOAT, strides, 0, ACL_FORMAT_ND, storage, 1, a), nullptr);
  EXPECT_THAT(s.error(), HasSubstr("reaches element 5, the storage has 5"));
  ta = s.tensor(a, {4, 2}, ACL_FLOAT);  // the allocation has 4 elements
  EXPECT_EQ(describe(), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("over the end"));
}

TEST_F(TwoPhases, ATensorIsDestroyedOnceAndWithItsList) {
  aclTensor* t = s.tensor(a, {4}, ACL_FLOAT);
  s.list(t);
  EXPECT_EQ(CANN(aclDestroyTensor)(t), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("belongs to a list"));
  s.destroy_tensors();
  EXPECT_EQ(CANN(aclDestroyTensor)(t), ACLNN_ERR_PARAM_INVALID);
}

TEST_F(TwoPhases, FormatsOtherThanNdAreRefused) {
  ta = s.tensor(a, {2, 2}, ACL_FLOAT, {.format = ACL_FORMAT_FRACTAL_NZ});
  EXPECT_EQ(describe(), ACLNN_ERR_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("format ND"));
}

TEST_F(TwoPhases, Counts) {
  CANN(cann_sim_reset_counts)();
  ASSERT_EQ(describe(), 0);
  ASSERT_EQ(run(s.allocate(workspace), workspace), 0);
  ASSERT_EQ(s.sync(), 0);
  EXPECT_EQ(CANN(cann_sim_count)("launch"), 1u);
  EXPECT_EQ(CANN(cann_sim_count)("launch:aclnnMm"), 1u);
  EXPECT_EQ(CANN(cann_sim_count)("sync"), 1u);
}

}  // namespace
}  // namespace cann_test
