// The model of time and what is recorded of streams.

#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "sim/cann.h"

namespace cann_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kRounding = 1e-5;  // microseconds

class Timeline : public testing::Test {
 protected:
  Timeline() { CANN(cann_sim_record)(1); }
  ~Timeline() override { CANN(cann_sim_record)(0); }

  /// [n, n] times [n, n] in bf16, ready to be launched: what the host copies is behind it.
  struct Product {
    void* workspace = nullptr;
    uint64_t bytes = 0;
    aclOpExecutor* executor = nullptr;
  };
  Product product(int64_t n) {
    const auto matrix = [&] {
      const std::vector<float> ones(static_cast<size_t>(n * n), 1);
      return s.tensor(s.upload_bf16(ones), {n, n}, ACL_BF16);
    };
    aclTensor *a = matrix(), *b = matrix(), *c = matrix();
    Product p;
    EXPECT_EQ(CANN(aclnnMmGetWorkspaceSize)(a, b, c, 0, &p.bytes, &p.executor), 0) << s.error();
    p.workspace = s.allocate(p.bytes);
    return p;
  }
  void launch(const Product& p, aclrtStream on) {
    ASSERT_EQ(CANN(aclnnMm)(p.workspace, p.bytes, p.executor, on), 0) << s.error();
  }
  nlohmann::json trace() {
    const std::string path = testing::TempDir() + "cann_sim_trace.json";
    EXPECT_EQ(CANN(cann_sim_write_trace)(path.c_str()), 0) << s.error();
    nlohmann::json events = nlohmann::json::parse(std::ifstream(path)).at("traceEvents");
    std::filesystem::remove(path);
    return events;
  }
  struct Times {
    double begin, length;
    double end() const { return begin + length; }
  };
  /// Of one kind, in microseconds, in the order of calls.
  std::vector<Times> times_of(const std::string& kind) {
    std::vector<Times> times;
    for (const auto& event : trace())
      if (event.at("ph").get<std::string>() == "X" && event.at("cat").get<std::string>() == kind)
        times.push_back({event.at("ts").get<double>(), event.at("dur").get<double>()});
    return times;
  }

  Session s{"8.5"};
  Cann& cann = s.cann;
};

// 320 TFLOP/s and 1.6 TB/s, whichever takes longer.
TEST_F(Timeline, AProductTakesWhatItsSlowestPartTakes) {
  const Product small = product(64), large = product(1024);
  launch(small, s.stream);
  launch(large, s.stream);
  ASSERT_EQ(s.sync(), 0) << s.error();
  const auto times = times_of("launch");
  ASSERT_EQ(times.size(), 2u);
  EXPECT_NEAR(times[0].length, 3.0 * 64 * 64 * 2 / 1.6e6, kRounding) << "memory";
  EXPECT_NEAR(times[1].length, 2.0 * 1024 * 1024 * 1024 / 320e6, kRounding) << "products";
  EXPECT_NEAR(times[1].begin, times[0].end(), kRounding) << "one after the other";
}

TEST_F(Timeline, StreamsRunBesideEachOtherAndEventsOrderThem) {
  aclrtStream other = nullptr;
  aclrtEvent event = nullptr;
  ASSERT_EQ(CANN(aclrtCreateStream)(&other), 0);
  ASSERT_EQ(CANN(aclrtCreateEvent)(&event), 0);
  const Product large = product(256), small[] = {product(16), product(16), product(16)};
  launch(large, s.stream);
  ASSERT_EQ(CANN(aclrtRecordEvent)(event, s.stream), 0);
  launch(small[0], other);
  ASSERT_EQ(CANN(aclrtStreamWaitEvent)(other, event), 0);
  launch(small[1], other);
  ASSERT_EQ(CANN(aclrtSynchronizeStream)(other), 0) << s.error();
  launch(small[2], s.stream);
  ASSERT_EQ(s.sync(), 0) << s.error();
  const auto times = times_of("launch");
  ASSERT_EQ(times.size(), 4u);
  EXPECT_EQ(times[1].begin, times[0].begin) << "beside";
  EXPECT_LT(times[1].end(), times[0].end());
  EXPECT_NEAR(times[2].begin, times[0].end(), kRounding) << "behind the event";
  EXPECT_NEAR(times[3].begin, times[2].end(), kRounding) << "the host waited for the other stream first";
  EXPECT_EQ(CANN(aclrtDestroyEvent)(event), 0);
  EXPECT_EQ(CANN(aclrtDestroyStream)(other), 0);
}

TEST_F(Timeline, StalledWorkTakesAsMuchLonger) {
  void* data = s.allocate(64);
  ASSERT_EQ(CANN(cann_sim_fault)("aclrtMemsetAsync nth 1 stall 50"), 0);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(CANN(aclrtMemsetAsync)(data, 64, 1, 64, s.stream), 0);
  ASSERT_EQ(s.sync(), 0);
  const auto times = times_of("memset");
  ASSERT_EQ(times.size(), 2u);
  EXPECT_GE(times[0].begin, 50'000);
  EXPECT_GE(times[1].begin, times[0].end() - kRounding);
}

TEST_F(Timeline, TheJournalHasCallsInTheirOrder) {
  const std::vector<float> values(16, 1);
  void* data = s.upload(values);
  ASSERT_EQ(CANN(aclrtMemsetAsync)(data, 64, 0, 64, s.stream), 0);
  ASSERT_EQ(s.sync(), 0);
  s.download<float>(data, 16);
  std::istringstream lines(CANN(cann_sim_journal)(0));
  std::vector<std::string> kinds;
  std::string row, kind, name, bytes;
  while (lines >> row >> kind >> name >> bytes) kinds.push_back(kind + " " + name + " " + bytes);
  EXPECT_THAT(kinds, ElementsAre("h2d aclrtMemcpy 64", "memset aclrtMemsetAsync 64", "wait stream 0",
                                 "d2h aclrtMemcpy 64"));
  EXPECT_STREQ(CANN(cann_sim_journal)(5), "");
}

TEST_F(Timeline, ATraceThatCannotBeWrittenIsTold) {
  EXPECT_NE(CANN(cann_sim_write_trace)("/no/such/folder/trace.json"), 0);
  EXPECT_THAT(s.error(), HasSubstr("/no/such/folder/trace.json can't be written"));
}

}  // namespace
}  // namespace cann_test
