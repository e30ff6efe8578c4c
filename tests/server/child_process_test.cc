#include "server/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/soon.h"

namespace longspan::server {
namespace {

bool runs(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  return !text.empty() && text.find(") Z ") == std::string::npos;
}

// A program that has started another, whose process id it tells.
int started_by(ChildProcess& child, const std::filesystem::path& told) {
  EXPECT_TRUE(soon([&] { return std::filesystem::exists(told) || child.status(); }));
  int pid = 0;
  std::ifstream(told) >> pid;
  return pid;
}

TEST(ChildProcess, IsWaitedForWhereItsSignalWasIgnored) {
  signal(SIGCHLD, SIG_IGN);
  ChildProcess child({"sh", "-c", "exit 3"}, {});
  ASSERT_TRUE(soon([&] { return child.status().has_value(); }));
  EXPECT_EQ(status_text(*child.status()), "ended with exit code 3");
}

TEST(ChildProcess, HasEndedWhereAnotherAskedForItsStatus) {
  ChildProcess child({"sh", "-c", "exit 3"}, {});
  int status = 0;
  ASSERT_GT(waitpid(-1, &status, 0), 0);
  ASSERT_TRUE(child.status());
  EXPECT_EQ(status_text(*child.status()), "has ended");
}

TEST(ChildProcess, EndsWithWhatItStarted) {
  std::string name = (std::filesystem::temp_directory_path() / "child_process_XXXXXX").string();
  const std::filesystem::path folder = mkdtemp(name.data());
  for (const char* what :
       {"exec sleep 60", "trap '' TERM; echo deaf >$TOLD.deaf; while :; do sleep 0.05; done"}) {
    const std::string told = folder / std::to_string(std::string(what).size());
    ChildProcess child({"sh", "-c", "sh -c \"$WHAT\" & echo $! >$TOLD.new; mv $TOLD.new $TOLD; wait"},
                       {{"WHAT", what}, {"TOLD", told}});
    const int pid = started_by(child, told);
    ASSERT_TRUE(runs(pid)) << what;
    if (what[0] == 't') {
      ASSERT_TRUE(soon([&] { return std::filesystem::exists(told + ".deaf"); }));
    }
    child.end(std::chrono::milliseconds(500));
    EXPECT_TRUE(child.status());
    EXPECT_FALSE(runs(pid)) << what;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace longspan::server
