#include <longspan/job.h>

#include <cstdlib>
#include <filesystem>

#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::HasSubstr;

using JobTest = CliTest;

std::vector<std::string> mpi(std::vector<std::string> args) {
  args.insert(args.end(), {"-m", "M", "--comm", "mpi", "--cp", "3"});
  return args;
}

TEST_F(JobTest, RankZeroAnswers) {
  const CliResult r = run(mpi({"generate", "-p", "hello"}));
  EXPECT_EQ(r.code, kExitOk);
  EXPECT_EQ(r.out, "ok\n");
  ASSERT_EQ(script_.opened.size(), 1u);
  EXPECT_EQ(script_.opened[0].job, script_.job);
  EXPECT_TRUE(script_.followed.empty());
}

// A card for each rank: HCCL's time limit is --comm-timeout in whole seconds, unless the environment has one.
TEST_F(JobTest, CardsHaveTheTimeLimit) {
  unsetenv("HCCL_EXEC_TIMEOUT");
  const std::vector<std::string> args = {"generate", "-m",   "M",    "--backend", "ascend",
                                         "--comm",   "hccl", "--cp", "2",         "--comm-timeout",
                                         "1.5",      "-p",   "hello"};
  EXPECT_EQ(run(args).code, kExitOk);
  ASSERT_EQ(script_.opened.size(), 1u);
  EXPECT_TRUE(script_.opened[0].hccl);
  EXPECT_STREQ(std::getenv("HCCL_EXEC_TIMEOUT"), "2");
  setenv("HCCL_EXEC_TIMEOUT", "7", 1);
  EXPECT_EQ(run(args).code, kExitOk);
  EXPECT_STREQ(std::getenv("HCCL_EXEC_TIMEOUT"), "7");
  unsetenv("HCCL_EXEC_TIMEOUT");
}

// Cards of several processes: the same flags, but mpirun has started them.
TEST_F(JobTest, CardsOfProcessesJoinAJob) {
  const std::vector<std::string> args = {"generate", "-m", "M", "--backend", "ascend", "--tp", "2", "-p", "hello"};
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  EXPECT_EQ(run(args).code, kExitOk);
  ASSERT_EQ(script_.opened.size(), 1u);
  EXPECT_TRUE(script_.opened[0].hccl);
  EXPECT_NE(script_.opened[0].job, nullptr);
  script_.job_rank = 1;
  EXPECT_EQ(run(args).code, kExitOk);
  EXPECT_EQ(script_.followed.size(), 1u);
  unsetenv("OMPI_COMM_WORLD_SIZE");
  unsetenv("HCCL_EXEC_TIMEOUT");
}

// Nothing is read or written where the requests are not.
TEST_F(JobTest, TheOthersFollowInSilence) {
  script_.job_rank = 2;
  const CliResult r = run(mpi({"batch", "-i", path("none"), "-o", path("results"), "--json"}));
  EXPECT_EQ(r.code, kExitOk);
  EXPECT_EQ(r.out + r.err, "");
  ASSERT_EQ(script_.followed.size(), 1u);
  EXPECT_EQ(script_.followed[0].job, script_.job);
  EXPECT_EQ(script_.followed[0].layout.cp, 3);
  EXPECT_TRUE(script_.opened.empty());
  EXPECT_FALSE(std::filesystem::exists(path("results")));
}

TEST_F(JobTest, TheyFollowEveryEngineOfABenchmark) {
  script_.job_rank = 1;
  EXPECT_EQ(run({"bench", "-m", "M", "--comm", "mpi", "--tp", "3", "--cp", "1,3"}).code, kExitOk);
  ASSERT_EQ(script_.followed.size(), 2u);
  EXPECT_EQ(script_.followed[0].layout.cp, 1);
  EXPECT_EQ(script_.followed[1].layout.cp, 3);
}

// Rank 0 tells what was wrong, in whatever process; a lost rank is told by all who notice.
TEST_F(JobTest, TheirErrorsAreRankZeros) {
  script_.job_rank = 1;
  script_.follow_error = Error(ErrorCode::kUnreadable, "rank 2: no model folder");
  CliResult r = run(mpi({"generate", "-p", "x", "--json"}));
  EXPECT_EQ(r.code, kExitUnreadable);
  EXPECT_EQ(r.out + r.err, "");
  script_.follow_error = Error(ErrorCode::kCancelled, "rank 0 has left the job");
  EXPECT_EQ(run(mpi({"generate", "-p", "x"})).code, kExitOk);
  script_.follow_error = Error(ErrorCode::kRankLost, "rank 1 left barrier: rank 2 is silent");
  r = run(mpi({"generate", "-p", "x", "--json", "--trust-remote-code"}));
  EXPECT_EQ(r.code, kExitRankLost);
  EXPECT_EQ(r.err, "longspan: error: rank 1 left barrier: rank 2 is silent\n");
  EXPECT_EQ(r.out, "");
}

// The reference of a self-check is rank 0's alone.
TEST_F(JobTest, ASelfCheckTakesNoOtherProcess) {
  run(mpi({"generate", "-p", "hello", "--self-check", "1/1"}));
  ASSERT_EQ(script_.opened.size(), 2u);
  EXPECT_EQ(script_.opened[0].job, nullptr);
  EXPECT_EQ(script_.opened[0].layout.cp, 1);
  EXPECT_EQ(script_.opened[1].job, script_.job);
}

TEST_F(JobTest, APlanNeedsNoJob) {
  script_.job_rank = 1;
  EXPECT_EQ(run(mpi({"plan"})).code, kExitUnreadable);  // it looked for the model itself
  EXPECT_EQ(script_.job, nullptr);
}

// Where nobody has started its ranks a server does, after a look at the layout; else it is one of them.
TEST_F(JobTest, AServerStartsItsRanks) {
  const std::string model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  const auto serve = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"serve", "--port", "0", "-m", model, "--comm", "mpi"});
    return run(flags);
  };
  if (built_with_mpi()) {
    EXPECT_THAT(serve({"--tp", "3"}).err, HasSubstr("nearest legal setting"));
    CliResult r = serve({"--cp", "2", "--mpirun", " "});
    EXPECT_EQ(r.code, kExitUsage);
    EXPECT_EQ(r.err, "longspan: error: --mpirun: which command starts the ranks?\n");
    r = serve({"--cp", "2", "--mpirun", "/nonexistent/mpirun", "-q"});
    EXPECT_EQ(r.code, kExitUsage);
    EXPECT_EQ(r.err, "longspan: error: can't run /nonexistent/mpirun: No such file or directory\n");
  }
  EXPECT_EQ(script_.job, nullptr);

  launched_ = true;
  script_.job_rank = 1;
  EXPECT_EQ(run({"serve", "--comm", "mpi", "--cp", "3"}).code, kExitOk);
  ASSERT_EQ(script_.followed.size(), 1u);
  EXPECT_EQ(std::filesystem::path(script_.followed[0].model).filename(), "recall-moe")
      << "the one in the box";
}

// `ps` shows arguments to everybody, and /health the errors.
TEST_F(JobTest, AServersKeysAreNoArgumentsOfItsRanks) {
  if (!built_with_mpi()) GTEST_SKIP() << "no MPI in this build";
  const std::string model = LONGSPAN_SOURCE_DIR "/models/recall-moe", launcher = path("launcher");
  write_file(launcher, "#!/bin/sh\nprintf '%s ' \"$@\" > " + path("arguments") +
                           "\necho \"$LONGSPAN_API_KEY\" > " + path("keys") + "\nexit 3\n");
  std::filesystem::permissions(launcher, std::filesystem::perms::owner_all);
  const CliResult r = run({"serve", "--port", "0", "-m", model, "--api-key", "sk-one", "--comm", "mpi",
                           "--api-key=sk-two", "--cp", "2", "-q", "--mpirun", launcher});
  EXPECT_EQ(r.code, kExitUsage);
  EXPECT_EQ(r.err, "longspan: error: " + launcher + " ended with exit code 3 before rank 0 was there\n");
  EXPECT_THAT(read_file(path("arguments")),
              testing::EndsWith(" serve --port 0 -m " + model + " --comm mpi --cp 2 -q --mpirun " + launcher + " "));
  EXPECT_EQ(read_file(path("keys")), "sk-one\nsk-two\n");
}

}  // namespace
}  // namespace longspan::cli
