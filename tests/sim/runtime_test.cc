// ACL as the simulator gives it: life, memory, streams, events.

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "sim/cann.h"

namespace cann_test {
namespace {

using testing::HasSubstr;

class Runtime : public testing::TestWithParam<const char*> {
 protected:
  Session s{GetParam()};
  Cann& cann = s.cann;
};

INSTANTIATE_TEST_SUITE_P(Releases, Runtime, testing::Values("8.1", "8.5", "9.0"), [](const auto& info) {
  std::string name = info.param;
  name[1] = '_';
  return name;
});

TEST_P(Runtime, SaysWhichReleaseItIs) {
  EXPECT_STREQ(CANN(cann_sim_profile)(), GetParam());
  EXPECT_STREQ(CANN(aclrtGetSocName)(), "Ascend910B3");
  uint32_t devices = 0;
  EXPECT_EQ(CANN(aclrtGetDeviceCount)(&devices), 0);
  EXPECT_EQ(devices, 8u);
}

TEST_P(Runtime, ASecondInitIsTold) {
  EXPECT_EQ(CANN(aclInit)(nullptr), ACL_ERROR_REPEAT_INITIALIZE);
}

TEST_P(Runtime, TheErrorTextIsReadOnce) {
  EXPECT_EQ(CANN(aclrtSetDevice)(99), ACL_ERROR_RT_INVALID_DEVICEID);
  EXPECT_THAT(s.error(), HasSubstr("device 99"));
  EXPECT_EQ(s.error(), "");
}

TEST_P(Runtime, ADeviceIsSetPerThread) {
  int status = 0;
  std::string text;
  std::thread([&] {
    void* data = nullptr;
    status = CANN(aclrtMalloc)(&data, 64, ACL_MEM_MALLOC_HUGE_FIRST);
    text = s.error();
  }).join();
  EXPECT_EQ(status, ACL_ERROR_RT_CONTEXT_NULL);
  EXPECT_THAT(text, HasSubstr("aclrtSetDevice is per thread"));
}

TEST_P(Runtime, MemoryFaultsAreTold) {
  void* data = nullptr;
  EXPECT_EQ(CANN(aclrtMalloc)(&data, 0, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(CANN(aclrtMalloc)(&data, size_t{1} << 40, ACL_MEM_MALLOC_HUGE_FIRST),
            ACL_ERROR_RT_MEMORY_ALLOCATION);
  ASSERT_EQ(CANN(aclrtMalloc)(&data, 100, ACL_MEM_MALLOC_HUGE_FIRST), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
  EXPECT_EQ(CANN(aclrtFree)(static_cast<char*>(data) + 64), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(CANN(aclrtFree)(data), 0);
  EXPECT_EQ(CANN(aclrtFree)(data), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("a second time"));
}

TEST_P(Runtime, CopiesAreChecked) {
  void* data = s.allocate(16);
  char host[32] = {};
  const auto copy = [&](void* dst, size_t max, const void* src, size_t bytes, aclrtMemcpyKind kind) {
    return CANN(aclrtMemcpy)(dst, max, src, bytes, kind);
  };
  EXPECT_EQ(copy(host, 32, data, 16, ACL_MEMCPY_DEVICE_TO_HOST), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("never written"));
  EXPECT_EQ(copy(data, 16, host, 32, ACL_MEMCPY_HOST_TO_DEVICE), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(copy(data, 32, host, 32, ACL_MEMCPY_HOST_TO_DEVICE), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("over the end"));
  EXPECT_EQ(copy(host, 32, host, 8, ACL_MEMCPY_HOST_TO_DEVICE), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("not a device address"));
  EXPECT_EQ(copy(data, 16, host, 16, ACL_MEMCPY_HOST_TO_HOST), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(copy(data, 16, host, 16, ACL_MEMCPY_HOST_TO_DEVICE), 0);
  EXPECT_EQ(copy(host, 32, data, 16, ACL_MEMCPY_DEVICE_TO_HOST), 0);
}

// Within pages that were written and at their edges.
TEST_P(Runtime, ZerosReachExactlyAsFarAsAsked) {
  constexpr size_t kBytes = 20000, kBegin = 1000, kCount = 15000;
  auto* data = static_cast<char*>(s.allocate(kBytes));
  ASSERT_EQ(CANN(aclrtMemset)(data, kBytes, 1, kBytes), 0);
  ASSERT_EQ(CANN(aclrtMemset)(data + kBegin, kCount, 0, kCount), 0);
  std::vector<char> expected(kBytes, 1), host(kBytes);
  std::fill_n(expected.begin() + kBegin, kCount, 0);
  ASSERT_EQ(CANN(aclrtMemcpy)(host.data(), kBytes, data, kBytes, ACL_MEMCPY_DEVICE_TO_HOST), 0);
  EXPECT_EQ(host, expected);
  ASSERT_EQ(CANN(aclrtMemset)(data + 10, 20, 0, 20), 0);
  std::fill_n(expected.begin() + 10, 20, 0);
  ASSERT_EQ(CANN(aclrtMemcpy)(host.data(), kBytes, data, kBytes, ACL_MEMCPY_DEVICE_TO_HOST), 0);
  EXPECT_EQ(host, expected) << "within one page";
}

// So that a pool may have the size of a card.
TEST_P(Runtime, ZerosTakeNoMemoryOfTheHost) {
  const auto resident = [] {
    int64_t all = 0, pages = 0;
    std::ifstream("/proc/self/statm") >> all >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  constexpr size_t kBytes = size_t{1} << 30;
  void* data = s.allocate(kBytes);
  const int64_t before = resident();
  ASSERT_EQ(CANN(aclrtMemset)(data, kBytes, 0, kBytes), 0);
  EXPECT_LT(resident() - before, int64_t{kBytes} / 10);
  char last = 1;
  EXPECT_EQ(CANN(aclrtMemcpy)(&last, 1, static_cast<char*>(data) + kBytes - 1, 1, ACL_MEMCPY_DEVICE_TO_HOST),
            0);
  EXPECT_EQ(last, 0);
}

TEST_P(Runtime, MemoryInfoCountsWhatIsTaken) {
  size_t before = 0, total = 0, after = 0;
  ASSERT_EQ(CANN(aclrtGetMemInfo)(ACL_HBM_MEM, &before, &total), 0);
  s.allocate(1000);
  ASSERT_EQ(CANN(aclrtGetMemInfo)(ACL_HBM_MEM, &after, &total), 0);
  EXPECT_EQ(before - after, 1056u) << "up to 32 bytes, and 32 of slack";
}

TEST_P(Runtime, PinnedCopiesRunLate) {
  void* data = s.allocate(4);
  void* pinned = nullptr;
  ASSERT_EQ(CANN(aclrtMallocHost)(&pinned, 4), 0);
  auto* value = static_cast<int32_t*>(pinned);
  *value = 1;
  ASSERT_EQ(CANN(aclrtMemcpyAsync)(data, 4, pinned, 4, ACL_MEMCPY_HOST_TO_DEVICE, s.stream), 0);
  *value = 2;  // too soon: this is what arrives
  ASSERT_EQ(s.sync(), 0);
  EXPECT_EQ(s.download<int32_t>(data, 1)[0], 2);

  int32_t pageable = 3;
  ASSERT_EQ(CANN(aclrtMemcpyAsync)(data, 4, &pageable, 4, ACL_MEMCPY_HOST_TO_DEVICE, s.stream), 0);
  pageable = 4;  // done when the call returns
  ASSERT_EQ(s.sync(), 0);
  EXPECT_EQ(s.download<int32_t>(data, 1)[0], 3);
  EXPECT_EQ(CANN(aclrtFreeHost)(pinned), 0);
  EXPECT_EQ(CANN(aclrtFreeHost)(pinned), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_P(Runtime, PinnedMemoryFreedUnderACopyIsTold) {
  void* data = s.allocate(4);
  void* pinned = nullptr;
  ASSERT_EQ(CANN(aclrtMallocHost)(&pinned, 4), 0);
  std::memset(pinned, 1, 4);
  ASSERT_EQ(CANN(aclrtMemcpyAsync)(data, 4, pinned, 4, ACL_MEMCPY_HOST_TO_DEVICE, s.stream), 0);
  ASSERT_EQ(CANN(aclrtFreeHost)(pinned), 0);
  void* next = nullptr;  // may lie at the same place
  ASSERT_EQ(CANN(aclrtMallocHost)(&next, 4), 0);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("was freed before the copy ran"));
  EXPECT_EQ(CANN(aclrtFreeHost)(next), 0);
}

TEST_P(Runtime, ACallFailsOnDemandOnce) {
  void* data = nullptr;
  CANN(cann_sim_fault)("aclrtMallocHost nth 2 no-memory");
  ASSERT_EQ(CANN(aclrtMallocHost)(&data, 100), 0);
  EXPECT_EQ(CANN(cann_sim_pinned_bytes)(), 100u);
  void* more = nullptr;
  EXPECT_EQ(CANN(aclrtMallocHost)(&more, 100), ACL_ERROR_RT_MEMORY_ALLOCATION);
  EXPECT_THAT(s.error(), HasSubstr("because a rule wants it to"));
  ASSERT_EQ(CANN(aclrtMallocHost)(&more, 100), 0);
  EXPECT_EQ(CANN(aclrtFreeHost)(data), 0);
  EXPECT_EQ(CANN(aclrtFreeHost)(more), 0);
  EXPECT_EQ(CANN(cann_sim_pinned_bytes)(), 0u);
}

TEST_P(Runtime, ASynchronousCopyWaitsForNoStream) {
  void* data = s.upload<int32_t>({7});
  ASSERT_EQ(CANN(aclrtMemsetAsync)(data, 4, 0, 4, s.stream), 0);
  EXPECT_EQ(s.download<int32_t>(data, 1)[0], 7);
  ASSERT_EQ(s.sync(), 0);
  EXPECT_EQ(s.download<int32_t>(data, 1)[0], 0);
}

TEST_P(Runtime, DeviceToDeviceCopiesWantAlignedAddresses) {
  auto* data = static_cast<char*>(s.upload<int32_t>(std::vector<int32_t>(64)));
  EXPECT_EQ(CANN(aclrtMemcpyAsync)(data + 128, 16, data + 16, 16, ACL_MEMCPY_DEVICE_TO_DEVICE, s.stream),
            ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(CANN(aclrtMemcpyAsync)(data + 128, 16, data, 16, ACL_MEMCPY_DEVICE_TO_DEVICE, s.stream), 0);
}

// Two streams write one place: what comes last depends on the seed alone, unless an event orders them.
TEST_P(Runtime, OnlyEventsOrderStreams) {
  aclrtStream other = nullptr;
  aclrtEvent event = nullptr;
  ASSERT_EQ(CANN(aclrtCreateStream)(&other), 0);
  ASSERT_EQ(CANN(aclrtCreateEvent)(&event), 0);
  void* data = s.allocate(1);
  const auto last_writer = [&](uint64_t seed, bool ordered) {
    CANN(cann_sim_seed)(seed);
    EXPECT_EQ(CANN(aclrtMemsetAsync)(data, 1, 1, 1, s.stream), 0);
    if (ordered) {
      EXPECT_EQ(CANN(aclrtRecordEvent)(event, s.stream), 0);
      EXPECT_EQ(CANN(aclrtStreamWaitEvent)(other, event), 0);
    }
    EXPECT_EQ(CANN(aclrtMemsetAsync)(data, 1, 2, 1, other), 0);
    EXPECT_EQ(CANN(aclrtSynchronizeDevice)(), 0);
    return static_cast<int>(s.download<char>(data, 1)[0]);
  };
  std::vector<int> unordered;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    unordered.push_back(last_writer(seed, false));
    EXPECT_EQ(last_writer(seed, false), unordered.back()) << "the same seed, the same order";
    EXPECT_EQ(last_writer(seed, true), 2);
  }
  EXPECT_THAT(unordered, testing::AllOf(testing::Contains(1), testing::Contains(2)));
  EXPECT_EQ(CANN(aclrtDestroyStream)(other), 0);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(event), 0);
}

TEST_P(Runtime, QueriesEnd) {
  void* data = s.allocate(4);
  aclrtEvent event = nullptr;
  ASSERT_EQ(CANN(aclrtCreateEvent)(&event), 0);
  ASSERT_EQ(CANN(aclrtMemsetAsync)(data, 4, 0, 4, s.stream), 0);
  ASSERT_EQ(CANN(aclrtRecordEvent)(event, s.stream), 0);
  aclrtEventRecordedStatus recorded = ACL_EVENT_RECORDED_STATUS_NOT_READY;
  for (int i = 0; i < 100 && recorded == ACL_EVENT_RECORDED_STATUS_NOT_READY; ++i)
    ASSERT_EQ(CANN(aclrtQueryEventStatus)(event, &recorded), 0);
  EXPECT_EQ(recorded, ACL_EVENT_RECORDED_STATUS_COMPLETE);
  aclrtStreamStatus status = ACL_STREAM_STATUS_NOT_READY;
  ASSERT_EQ(CANN(aclrtStreamQuery)(s.stream, &status), 0);
  EXPECT_EQ(status, ACL_STREAM_STATUS_COMPLETE);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(event), 0);
}

TEST_P(Runtime, ElapsedTimeNeedsBothEventsDone) {
  aclrtEvent start = nullptr, end = nullptr;
  ASSERT_EQ(CANN(aclrtCreateEventExWithFlag)(&start, ACL_EVENT_TIME_LINE), 0);
  ASSERT_EQ(CANN(aclrtCreateEventExWithFlag)(&end, ACL_EVENT_TIME_LINE), 0);
  ASSERT_EQ(CANN(aclrtRecordEvent)(start, s.stream), 0);
  ASSERT_EQ(CANN(aclrtRecordEvent)(end, s.stream), 0);
  float ms = -1;
  EXPECT_EQ(CANN(aclrtEventElapsedTime)(&ms, start, end), ACL_ERROR_RT_PARAM_INVALID);
  ASSERT_EQ(s.sync(), 0);
  EXPECT_EQ(CANN(aclrtEventElapsedTime)(&ms, start, end), 0);
  EXPECT_GE(ms, 0);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(start), 0);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(end), 0);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(end), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_P(Runtime, ElapsedTimeNeedsEventsMadeForIt) {
  aclrtEvent start = nullptr, end = nullptr;
  ASSERT_EQ(CANN(aclrtCreateEventExWithFlag)(&start, ACL_EVENT_TIME_LINE), 0);
  ASSERT_EQ(CANN(aclrtCreateEventExWithFlag)(&end, ACL_EVENT_SYNC), 0);
  for (aclrtEvent event : {start, end}) ASSERT_EQ(CANN(aclrtRecordEvent)(event, s.stream), 0);
  ASSERT_EQ(s.sync(), 0);
  float ms = -1;
  EXPECT_EQ(CANN(aclrtEventElapsedTime)(&ms, start, end), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("ACL_EVENT_TIME_LINE"));
  for (aclrtEvent event : {start, end}) EXPECT_EQ(CANN(aclrtDestroyEvent)(event), 0);
}

// An event behind a fault is never done; a loop of queries must not go on for ever.
TEST_P(Runtime, AQueryTellsTheFaultOfTheEventsStream) {
  void *data = s.allocate(4), *to = s.allocate(64);
  aclrtEvent event = nullptr;
  ASSERT_EQ(CANN(aclrtCreateEvent)(&event), 0);
  ASSERT_EQ(CANN(aclrtMemcpyAsync)(to, 4, data, 4, ACL_MEMCPY_DEVICE_TO_DEVICE, s.stream), 0);
  ASSERT_EQ(CANN(aclrtRecordEvent)(event, s.stream), 0);
  int status = 0;
  aclrtEventRecordedStatus recorded = ACL_EVENT_RECORDED_STATUS_NOT_READY;
  for (int i = 0; i < 100 && status == 0; ++i) status = CANN(aclrtQueryEventStatus)(event, &recorded);
  EXPECT_EQ(status, ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("never written"));
  EXPECT_EQ(CANN(aclrtDestroyEvent)(event), 0);
}

TEST(Limits, AreOfEachDevice) {
  Session s("8.5");
  Cann& cann = s.cann;
  std::vector<aclrtEvent> events(65536);
  for (aclrtEvent& event : events) ASSERT_EQ(CANN(aclrtCreateEvent)(&event), 0);
  aclrtEvent more = nullptr;
  EXPECT_EQ(CANN(aclrtCreateEvent)(&more), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_THAT(s.error(), HasSubstr("65536 events of device 0"));
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  EXPECT_EQ(CANN(aclrtCreateEvent)(&more), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  EXPECT_EQ(CANN(aclrtDestroyEvent)(events.back()), 0);
  EXPECT_EQ(CANN(aclrtCreateEvent)(&events.back()), 0);
  events.push_back(more);
  for (aclrtEvent event : events) ASSERT_EQ(CANN(aclrtDestroyEvent)(event), 0);
}

TEST(Versions, AreToldInTheReleasesOwnWay) {
  for (const char* release : {"8.1", "8.5"}) {
    Cann& cann = Cann::of(release);
    aclCANNPackageVersion version = {};
    ASSERT_EQ(CANN(aclsysGetCANNVersion)(ACL_PKG_NAME_CANN, &version), 0);
    EXPECT_STREQ(version.version, release);
  }
  for (const char* release : {"8.5", "9.0"}) {
    Cann& cann = Cann::of(release);
    char package[] = "runtime", text[64] = {};
    ASSERT_EQ(CANN(aclsysGetVersionStr)(package, text), 0);
    EXPECT_STREQ(text, release);
  }
}

TEST_P(Runtime, AStreamBelongsToItsDevice) {
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_STREAM_CONTEXT);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  EXPECT_EQ(s.sync(), 0);
}

TEST_P(Runtime, CopiesTouchTheirOwnDeviceAlone) {
  void* here = s.upload<int32_t>(std::vector<int32_t>(16));
  ASSERT_EQ(CANN(aclrtSetDevice)(1), 0);
  void* there = s.upload<int32_t>(std::vector<int32_t>(16));
  aclrtStream stream = nullptr;
  ASSERT_EQ(CANN(aclrtCreateStream)(&stream), 0);
  int32_t host = 0;
  const auto expect_refused = [&](int code) {
    EXPECT_EQ(code, ACL_ERROR_RT_PARAM_INVALID);
    EXPECT_THAT(s.error(), HasSubstr("lies on device 0, this thread has device 1"));
  };
  expect_refused(CANN(aclrtMemcpy)(&host, 4, here, 4, ACL_MEMCPY_DEVICE_TO_HOST));
  expect_refused(CANN(aclrtMemcpyAsync)(there, 4, here, 4, ACL_MEMCPY_DEVICE_TO_DEVICE, stream));
  expect_refused(CANN(aclrtMemset)(here, 4, 0, 4));
  expect_refused(CANN(aclrtMemsetAsync)(here, 4, 0, 4, stream));
  EXPECT_EQ(CANN(aclrtMemcpy)(&host, 4, there, 4, ACL_MEMCPY_DEVICE_TO_HOST), 0) << s.error();
  EXPECT_EQ(CANN(aclrtDestroyStream)(stream), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
}

TEST_P(Runtime, WhatIsLeftOverIsNamed) {
  EXPECT_THAT(CANN(cann_sim_leaks)(), HasSubstr("1 streams"));
  s.allocate(1234);
  EXPECT_THAT(CANN(cann_sim_leaks)(), HasSubstr("1234 bytes"));
}

TEST_P(Runtime, TheHostCannotTouchDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  volatile const char* data = static_cast<char*>(s.upload<int32_t>({1}));
  EXPECT_DEATH(
      {
        std::signal(SIGSEGV, SIG_DFL);
        [[maybe_unused]] const char value = *data;
      },
      "");
}

// Everything of this release is given back by now, so it can be ended and begun again.
TEST(Finalize, TellsLeaksAndAllowsANewBeginning) {
  Cann& cann = Cann::of("8.5");
  const auto error = [&] {
    const char* text = CANN(aclGetRecentErrMsg)();
    return std::string(text ? text : "");
  };
  CANN(aclInit)(nullptr);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  void* data = nullptr;
  ASSERT_EQ(CANN(aclrtMalloc)(&data, 77, ACL_MEM_MALLOC_HUGE_FIRST), 0);
  EXPECT_EQ(CANN(aclFinalize)(), ACL_ERROR_INTERNAL_ERROR);
  EXPECT_THAT(error(), HasSubstr("77 bytes"));
  EXPECT_EQ(CANN(aclFinalize)(), ACL_ERROR_UNINITIALIZE);
  ASSERT_EQ(CANN(aclInit)(nullptr), 0);
  ASSERT_EQ(CANN(aclrtSetDevice)(0), 0);
  ASSERT_EQ(CANN(aclrtFree)(data), 0);
  EXPECT_EQ(CANN(aclFinalize)(), 0) << error();
}

}  // namespace
}  // namespace cann_test
