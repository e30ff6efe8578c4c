// HCCL of the simulator between processes: the same results as between threads, to the bit, and the same faults.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "sim/hccl_rounds.h"
#include "support/temp_dir.h"

namespace cann_test {
namespace {

using longspan::testing_support::TempDir;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// A process with some ranks (process/hccl_rank.cc).
class RankProcess {
 public:
  RankProcess(const std::string& release, uint32_t ranks, const std::string& mine, const std::string& deed,
              const std::filesystem::path& folder) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const std::string size = std::to_string(ranks), at = folder.string();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      execl(HCCL_RANK, HCCL_RANK, release.c_str(), size.c_str(), mine.c_str(), deed.c_str(), at.c_str(),
            nullptr);
      _exit(127);
    }
    close(ends[1]);
    out_ = fdopen(ends[0], "r");
  }
  ~RankProcess() {
    if (pid_ > 0) end(SIGKILL);
    std::fclose(out_);
  }

  std::string output() {
    std::string text;
    for (int c = 0; (c = std::fgetc(out_)) != EOF;) text += static_cast<char>(c);
    return text;
  }
  /// Its status, after a signal if it gets one.
  int end(int signal = 0) {
    if (signal) kill(pid_, signal);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  std::FILE* out_ = nullptr;
};

struct Deed {
  std::vector<std::string> output;  // of each process
  std::vector<int> status;
  double seconds = 0;
};

/// Ranks as processes, with the ranks that each of them has.
Deed run(const std::string& deed, const std::vector<std::string>& processes, uint32_t ranks,
         const std::string& release = "8.5") {
  const TempDir folder;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<RankProcess>> started;
  for (const std::string& mine : processes)
    started.push_back(std::make_unique<RankProcess>(release, ranks, mine, deed, folder.path()));
  Deed done;
  for (size_t i = 0; i < started.size(); ++i) {
    const bool stopped = deed == "stop" && processes[i] == "1";
    done.output.push_back(stopped ? "" : started[i]->output());
    done.status.push_back(stopped ? 0 : started[i]->end());
  }
  done.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return done;
}

std::vector<std::string> with_threads(const std::string& release, uint32_t ranks,
                                      std::string (*deed)(RankSession&) = all_collectives) {
  Session root_session(release);
  Cann& cann = root_session.cann;
  HcclRootInfo root;
  EXPECT_EQ(CANN(HcclGetRootInfo)(&root), HCCL_SUCCESS);
  std::vector<std::string> found(ranks);
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      RankSession session(release.c_str(), ranks, root, rank);
      found[rank] = deed(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return found;
}

TEST(HcclProcesses, TheSameBitsAsBetweenThreads) {
  for (const char* release : {"8.5", "9.0"}) {
    const std::vector<std::string> expected = with_threads(release, 3);
    EXPECT_THAT(expected[0], HasSubstr("scatter"));
    EXPECT_EQ(run("all", {"0", "1", "2"}, 3, release).output, expected);
  }
}

TEST(HcclProcesses, SomeRanksMayBeThreadsOfOne) {
  const std::vector<std::string> expected = with_threads("8.5", 3);
  EXPECT_EQ(run("all", {"0,2", "1"}, 3).output,
            (std::vector<std::string>{expected[0] + expected[2], expected[1]}));
}

/// When a card's memsets and collectives begin and how long they are, in microseconds.
std::vector<std::pair<double, double>> times_of(const std::string& trace, uint32_t device) {
  std::vector<std::pair<double, double>> times;
  const nlohmann::json events = nlohmann::json::parse(trace).at("traceEvents");
  for (const auto& event : events) {
    if (event.at("ph").get<std::string>() != "X" || event.at("pid").get<uint32_t>() != device) continue;
    const auto kind = event.at("cat").get<std::string>();
    if (kind == "collective" || kind == "memset")
      times.emplace_back(event.at("ts").get<double>(), event.at("dur").get<double>());
  }
  return times;
}

TEST(HcclProcesses, TheSameTimesAsBetweenThreads) {
  Cann& cann = Cann::of("8.5");
  CANN(aclInit)(nullptr);
  CANN(cann_sim_record)(1);
  const std::vector<std::string> threads = with_threads("8.5", 3, trace_of_collectives);
  CANN(cann_sim_record)(0);
  const Deed done = run("times", {"0", "1", "2"}, 3);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    const auto expected = times_of(threads[rank], rank);
    EXPECT_EQ(expected.size(), 18u);
    EXPECT_EQ(times_of(done.output[rank], rank), expected) << "rank " << rank;
  }
}

/// Every rank that is left must end with this text, in this time.
void expect_fault(const std::string& deed, const std::vector<std::string>& says, double most_seconds = 20,
                  uint32_t ranks = 2) {
  std::vector<std::string> processes;
  for (uint32_t rank = 0; rank < ranks; ++rank) processes.push_back(std::to_string(rank));
  const Deed done = run(deed, processes, ranks);
  EXPECT_LT(done.seconds, most_seconds) << deed;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    if (says[rank].empty()) continue;
    EXPECT_THAT(done.output[rank], AllOf(StartsWith("507015 "), HasSubstr(says[rank]))) << deed;
    EXPECT_EQ(done.status[rank], 0) << deed << ": " << done.output[rank];
  }
}

TEST(HcclProcesses, CallsThatDisagreeAreTold) {
  const std::string disagree = "EI0002: collectives disagree: rank 0 is in HcclAllGather (FP32, count 1), rank 1 in ";
  expect_fault("count", std::vector(2, disagree + "HcclAllGather (FP32, count 2)"));
  expect_fault("type", std::vector(2, disagree + "HcclAllGather (INT32, count 1)"));
  expect_fault("order", std::vector(2, disagree + "HcclBarrier ()"));
  // Rank 1 may have had its rows by then.
  expect_fault("write", {"sendBuf of rank 0 was written to before the end", ""});
}

TEST(HcclProcesses, ARankThatDoesNotComeIsToldWithinTheLimit) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  const std::string late = "EI0002: HcclAllGather: notify wait time-out after 1 s; ranks that never came: 1 of 3";
  expect_fault("never", {late, "", late}, 20, 3);
  expect_fault("stop", {late, "", late}, 20, 3);
  unsetenv("HCCL_EXEC_TIMEOUT");
}

TEST(HcclProcesses, AProcessThatDiesIsToldAtOnce) {
  const std::string ended = "EI0002: HcclAllGather: the process of rank 1 of 3 ended before it came";
  expect_fault("kill", {ended, "", ended}, 20, 3);  // far below HCCL_EXEC_TIMEOUT
}

TEST(HcclProcesses, WhoCannotJoinIsTold) {
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  EXPECT_THAT(run("join never", {"0", "1"}, 2).output[0], StartsWith("9 EI0006: HcclCommInitRootInfo: 1 of 2 ranks"));
  setenv("HCCL_CONNECT_TIMEOUT", "60", 1);
  const Deed killed = run("join kill", {"0", "1", "2"}, 3);
  EXPECT_LT(killed.seconds, 30);
  EXPECT_THAT(killed.output[0], HasSubstr("the process of rank 1 of 3 has ended"));
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  const Deed device = run("join device", {"0", "1"}, 2);
  EXPECT_THAT(device.output[0] + device.output[1], HasSubstr("on device 0 came already"));
  unsetenv("HCCL_CONNECT_TIMEOUT");
}

TEST(HcclProcesses, ARootInfoEndsWithItsProcess) {
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  const TempDir folder;
  RankProcess maker("8.5", 2, "0", "join never", folder.path());
  EXPECT_THAT(maker.output(), StartsWith("9 "));
  maker.end();
  RankProcess late("8.5", 2, "1", "join", folder.path());
  EXPECT_THAT(late.output(), AllOf(StartsWith("1 "), HasSubstr("this rootInfo is used up, or process")));
  late.end();
  unsetenv("HCCL_CONNECT_TIMEOUT");
}

}  // namespace
}  // namespace cann_test
