// Calls that go wrong because a rule wants them to: CANN_SIM_FAULTS, and the same rules from a test.

#include <gmock/gmock.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "sim/cann.h"

namespace cann_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Faults : public testing::Test {
 protected:
  ~Faults() override { CANN(cann_sim_clear_faults)(); }
  void rule(const char* text) { ASSERT_EQ(CANN(cann_sim_fault)(text), 0) << s.error(); }
  int allocate() {
    void* data = nullptr;
    const int status = CANN(aclrtMalloc)(&data, 64, ACL_MEM_MALLOC_HUGE_FIRST);
    if (status == 0) s.release(data);
    return status;
  }
  std::vector<int> allocate_times(int times) {
    std::vector<int> codes;
    for (int i = 0; i < times; ++i) codes.push_back(allocate());
    return codes;
  }

  Session s{"8.5"};
  Cann& cann = s.cann;
};

TEST_F(Faults, ComeOnceEachTimeOrNowAndThen) {
  constexpr int kNone = ACL_ERROR_RT_MEMORY_ALLOCATION;
  rule("aclrtMalloc nth 2 no-memory");
  EXPECT_EQ(allocate_times(4), (std::vector<int>{0, kNone, 0, 0}));
  CANN(cann_sim_clear_faults)();
  rule("aclrtMalloc every 2 fail 507899");
  EXPECT_EQ(allocate_times(5), (std::vector<int>{0, 507899, 0, 507899, 0}));
  EXPECT_THAT(s.error(), HasSubstr("aclrtMalloc: fails because a rule wants it to (aclrtMalloc every 2"));
  CANN(cann_sim_clear_faults)();
  rule("aclrtMalloc fail 7  # always");
  EXPECT_EQ(allocate_times(2), (std::vector<int>{7, 7}));
  rule("aclrtMalloc nth 1 fail 8");
  EXPECT_EQ(allocate(), 7) << "the first rule that is due";
}

TEST_F(Faults, OfOneDeviceLeaveTheOthers) {
  rule("aclrtMalloc device 1 no-memory");
  EXPECT_EQ(allocate(), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  EXPECT_EQ(allocate(), ACL_ERROR_RT_MEMORY_ALLOCATION);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
}

// Every kind of entry point: runtime, handles, both phases, collectives' management.
TEST_F(Faults, EveryCallCanFail) {
  void* data = s.upload<float>({1, 2, 3, 4});
  aclTensor* a = s.tensor(data, {2, 2}, ACL_FLOAT);
  aclTensor* b = s.tensor(s.allocate(16), {2, 2}, ACL_FLOAT);
  const auto copy = [&] { return RUN(s, aclnnInplaceCopy, b, a); };
  for (const char* call : {"aclrtSynchronizeStream", "aclrtSetDevice", "aclnnInplaceCopyGetWorkspaceSize",
                           "aclnnInplaceCopy", "aclCreateTensor", "aclrtMemcpy", "HcclGetRootInfo"})
    rule((std::string(call) + " nth 1 fail 9").c_str());
  EXPECT_EQ(s.sync(), 9);
  EXPECT_EQ(CANN(aclrtSetDevice)(0), 9);
  EXPECT_EQ(copy(), 9) << "phase 1";
  EXPECT_EQ(copy(), 9) << "phase 2";
  const int64_t one = 1;
  EXPECT_EQ(CANN(aclCreateTensor)(&one, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &one, 1, data), nullptr);
  EXPECT_EQ(CANN(aclrtMemcpy)(data, 4, &one, 4, ACL_MEMCPY_HOST_TO_DEVICE), 9);
  HcclRootInfo root;
  EXPECT_EQ(CANN(HcclGetRootInfo)(&root), 9);
  EXPECT_EQ(copy(), 0) << s.error();
  EXPECT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(CANN(cann_sim_leaks)(), Not(HasSubstr("aclOpExecutor")));
}

// The work stands still on its stream, not on others, and time limits act.
TEST_F(Faults, StalledWorkTakesAsLong) {
  void *data = s.allocate(4), *other_data = s.allocate(4);
  aclrtStream other = nullptr;
  ASSERT_EQ(CANN(aclrtCreateStream)(&other), 0);
  rule("aclrtMemsetAsync nth 1 stall 5000");
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(CANN(aclrtMemsetAsync)(data, 4, 1, 4, s.stream), 0);
  ASSERT_EQ(CANN(aclrtMemsetAsync)(other_data, 4, 1, 4, other), 0);
  EXPECT_EQ(CANN(aclrtSynchronizeStreamWithTimeout)(s.stream, 50), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  EXPECT_THAT(s.error(), HasSubstr("stands at aclrtMemsetAsync"));
  EXPECT_EQ(CANN(aclrtSynchronizeStreamWithTimeout)(other, 4000), 0) << s.error();
  EXPECT_EQ(s.sync(), 0) << s.error();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(5000));
  EXPECT_EQ(CANN(aclrtDestroyStream)(other), 0);
}

TEST_F(Faults, AStalledCallTakesAsLong) {
  rule("aclrtSynchronizeStream nth 1 stall 100");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(s.sync(), 0);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
}

TEST_F(Faults, GarbageIsWhatIsWritten) {
  const std::vector<float> values = {1, 2, 3, 4};
  const auto product = [&](void* result) {
    aclTensor* a = s.tensor(s.upload<float>({1, 0, 0, 1}), {2, 2}, ACL_FLOAT);
    aclTensor* b = s.tensor(s.upload(values), {2, 2}, ACL_FLOAT);
    EXPECT_EQ(RUN(s, aclnnMm, a, b, s.tensor(result, {2, 2}, ACL_FLOAT), int8_t{0}), 0) << s.error();
    EXPECT_EQ(s.sync(), 0) << s.error();
    return s.download<uint32_t>(result, 4);
  };
  const std::vector<uint32_t> right = product(s.allocate(16));
  rule("aclnnMm nth 1 garbage");
  EXPECT_NE(product(s.allocate(16)), right);
  EXPECT_EQ(product(s.allocate(16)), right) << "once";
  rule("aclrtMemcpy nth 1 garbage");
  EXPECT_NE(s.download<float>(s.upload(values), 4), values);
  EXPECT_EQ(s.download<float>(s.upload(values), 4), values);
}

TEST_F(Faults, LinesThatSayNothingAreRefused) {
  const std::pair<const char*, const char*> wrong[] = {
      {"aclrtMaloc no-memory", "'aclrtMaloc' is no entry point"},
      {"aclGetRecentErrMsg fail 1", "is no entry point of this release that returns a code"},
      {"malloc fail 1", "'malloc' is no entry point"},
      {"aclnnMm", "'' is none of"},
      {"aclnnMm explode", "'explode' is none of: device N, nth N"},
      {"aclnnMm nth 0 fail 1", "'nth' wants a whole number from 1 on, got '0'"},
      {"aclnnMm every two fail 1", "got 'two'"},
      {"aclnnMm nth 1 every 2 fail 1", "'every' is none of"},
      {"aclnnMm fail", "'fail' wants a whole number from 1 on, got ''"},
      {"aclnnMm fail 1 fail 2", "'fail' follows a rule that is complete"},
      {"aclnnMm device -1 fail 1", "got '-1'"},
      {"aclnnMm no-memory", "no-memory is for calls that allocate"},
      {"aclrtMalloc garbage", "garbage is for operators, copies and collectives"},
      {"aclnnMmGetWorkspaceSize garbage", "garbage is for operators"},
  };
  for (const auto& [text, says] : wrong) {
    EXPECT_EQ(CANN(cann_sim_fault)(text), ACL_ERROR_INVALID_PARAM) << text;
    EXPECT_THAT(s.error(), HasSubstr(says)) << text;
  }
}

// What two ranks of one communicator do under a rule.
void on_two_ranks(const char* rule, const std::function<void(Session&, HcclComm, int)>& deed) {
  Session root_session("8.5");
  Cann& cann = root_session.cann;
  HcclRootInfo root;
  ASSERT_EQ(CANN(HcclGetRootInfo)(&root), HCCL_SUCCESS);
  ASSERT_EQ(CANN(cann_sim_fault)(rule), 0);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      Session s("8.5", rank);
      HcclComm comm = nullptr;
      ASSERT_EQ(CANN(HcclCommInitRootInfo)(2, &root, rank, &comm), HCCL_SUCCESS) << s.error();
      deed(s, comm, rank);
      EXPECT_EQ(CANN(HcclCommDestroy)(comm), HCCL_SUCCESS);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  CANN(cann_sim_clear_faults)();
}

// On one rank alone.
TEST(CollectiveFaults, GarbageArrivesAtOneRank) {
  on_two_ranks("HcclAllGather device 1 garbage", [](Session& s, HcclComm comm, int rank) {
    Cann& cann = s.cann;
    void *send = s.upload<float>({rank + 1.0f}), *recv = s.allocate(8);
    ASSERT_EQ(CANN(HcclAllGather)(send, recv, 1, HCCL_DATA_TYPE_FP32, comm, s.stream), 0) << s.error();
    ASSERT_EQ(s.sync(), 0) << s.error();
    const std::vector<float> right = {1, 2};
    EXPECT_EQ(s.download<float>(recv, 2) == right, rank == 0);
  });
}

// A rank whose collective stalls has not come; HCCL_EXEC_TIMEOUT releases the other.
TEST(CollectiveFaults, AStalledRankIsTold) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  on_two_ranks("HcclBarrier device 1 stall 8000", [](Session& s, HcclComm comm, int) {
    Cann& cann = s.cann;
    ASSERT_EQ(CANN(HcclBarrier)(comm, s.stream), HCCL_SUCCESS) << s.error();
    EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
    EXPECT_THAT(s.error(), HasSubstr("never came: 1 of 2"));
  });
  unsetenv("HCCL_EXEC_TIMEOUT");
}

// The file is read when the runtime starts.
TEST(FaultFile, IsReadByAclInit) {
  Cann& cann = Cann::of("8.5");
  const auto error = [&] {
    const char* text = CANN(aclGetRecentErrMsg)();
    return std::string(text ? text : "");
  };
  CANN(aclFinalize)();
  const std::string path = testing::TempDir() + "cann_sim_faults.txt";
  const auto init_with = [&](const char* text) {
    std::ofstream(path) << text;
    return CANN(aclInit)(nullptr);
  };
  setenv("CANN_SIM_FAULTS", path.c_str(), 1);
  EXPECT_EQ(init_with("# nothing yet\n\naclrtMalloc nth 1 no-memory\naclrtMalloc nth x fail 1\n"),
            ACL_ERROR_INVALID_PARAM);
  EXPECT_THAT(error(),
              AllOf(HasSubstr(path + ":4: 'nth' wants a whole number"), HasSubstr("CANN_SIM_FAULTS")));
  EXPECT_EQ(CANN(aclrtSetDevice)(0), ACL_ERROR_UNINITIALIZE) << "it has not started";
  EXPECT_EQ(init_with("aclInit nth 1 fail 507899\n"), 507899);
  EXPECT_THAT(error(), HasSubstr("aclInit: fails because a rule wants it to (" + path + ":1)"));
  EXPECT_EQ(init_with("  # one\naclrtMalloc nth 1 no-memory # two\n"), 0) << error();
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  void* data = nullptr;
  EXPECT_EQ(CANN(aclrtMalloc)(&data, 4, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_RT_MEMORY_ALLOCATION);
  CANN(aclFinalize)();
  std::filesystem::remove(path);
  EXPECT_EQ(CANN(aclInit)(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_THAT(error(), HasSubstr(path + " can't be read"));
  unsetenv("CANN_SIM_FAULTS");
  CANN(cann_sim_clear_faults)();
  EXPECT_EQ(CANN(aclInit)(nullptr), 0) << error();
}

}  // namespace
}  // namespace cann_test
