// A process with one or several ranks of a group, for tests of HCCL between processes: what they found goes to
// standard output.
//
// usage: hccl_rank RELEASE RANKS RANK[,RANK...] DEED FOLDER     rank 0 leaves the root info in FOLDER

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "sim/hccl_rounds.h"

namespace cann_test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

void pause(int ms) {
  std::this_thread::sleep_for(milliseconds(ms));
}

HcclRootInfo root_of(const std::string& release, bool makes, const fs::path& folder) {
  HcclRootInfo root = {};
  if (makes) {
    Session session(release);
    Cann& cann = session.cann;
    EXPECT_EQ(CANN(HcclGetRootInfo)(&root), HCCL_SUCCESS) << session.error();
    std::ofstream(folder / "half", std::ios::binary).write(root.internal, sizeof root.internal);
    fs::rename(folder / "half", folder / "root");
    return root;
  }
  while (!fs::exists(folder / "root")) pause(2);
  std::ifstream(folder / "root", std::ios::binary).read(root.internal, sizeof root.internal);
  return root;
}

/// How the rank's wait for its stream ends.
std::string end_of(RankSession& r) {
  const int code = r.s.sync();
  HcclResult lost = HCCL_SUCCESS;
  Cann& cann = r.cann;
  EXPECT_EQ(CANN(HcclGetCommAsyncError)(r.comm, &lost), HCCL_SUCCESS);
  EXPECT_EQ(lost == HCCL_SUCCESS, code == 0);
  return fmt::format("{} {}\n", code, code == 0 ? "" : r.s.error());
}

std::string collective(RankSession& r, const std::string& deed, const fs::path& folder) {
  Cann& cann = r.cann;
  if (deed == "all") return all_collectives(r);
  if (deed == "times") return trace_of_collectives(r);
  if (r.rank == 1 && deed == "never") return "stays away\n";
  if (r.rank == 1 && deed == "kill") raise(SIGKILL);
  if (r.rank == 1 && deed == "stop") raise(SIGSTOP);
  void* data = r.s.upload<float>({1, 2, 3, 4});
  void* to = r.s.allocate(64);
  const auto gather = [&](uint64_t count, HcclDataType dtype) {
    EXPECT_EQ(CANN(HcclAllGather)(data, to, count, dtype, r.comm, r.s.stream), HCCL_SUCCESS) << r.s.error();
  };
  while (deed == "write" && r.rank == 1 && !fs::exists(folder / "written")) pause(2);
  const auto barrier = [&] { EXPECT_EQ(CANN(HcclBarrier)(r.comm, r.s.stream), HCCL_SUCCESS); };
  if (deed == "order" && r.rank == 1) barrier();
  gather(deed == "count" ? r.rank + 1 : 1,
         deed == "type" && r.rank == 1 ? HCCL_DATA_TYPE_INT32 : HCCL_DATA_TYPE_FP32);
  if (deed == "order" && r.rank == 0) barrier();
  if (deed == "write" && r.rank == 0) {  // to what is sent, while rank 1 is awaited
    aclrtStreamStatus status;
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(CANN(aclrtStreamQuery)(r.s.stream, &status), 0);
    }
    const float other = 5;
    EXPECT_EQ(CANN(aclrtMemcpy)(data, 4, &other, 4, ACL_MEMCPY_HOST_TO_DEVICE), 0);
    std::ofstream(folder / "written") << "yes";
  }
  return end_of(r);
}

std::string deed_of(const std::string& release, uint32_t ranks, uint32_t rank, const std::string& deed,
                    const HcclRootInfo& root, const fs::path& folder) {
  if (deed.starts_with("join")) {
    if (rank == 1 && deed == "join never") return "stays away\n";
    Session s(release, deed == "join device" ? 0 : static_cast<int>(rank));
    Cann& cann = s.cann;
    HcclComm comm = nullptr;
    if (rank == 1 && deed == "join kill")
      std::thread([&] {
        pause(500);  // by then it waits for rank 2
        std::ofstream(folder / "dies") << "yes";
        raise(SIGKILL);
      }).detach();
    while (rank == 2 && deed == "join kill" && !fs::exists(folder / "dies")) pause(2);
    if (rank == 2) pause(deed == "join kill" ? 1000 : 100);
    const HcclResult code = CANN(HcclCommInitRootInfo)(ranks, &root, rank, &comm);
    if (comm) CANN(HcclCommDestroy)(comm);
    return fmt::format("{} {}\n", static_cast<int>(code), code == 0 ? "" : s.error());
  }
  RankSession session(release.c_str(), ranks, root, rank);
  return session.comm ? collective(session, deed, folder) : "";
}

int run(char** arguments) {
  const std::string release = arguments[1], deed = arguments[4];
  const auto ranks = static_cast<uint32_t>(std::stoul(arguments[2]));
  std::vector<uint32_t> mine;
  std::istringstream list(arguments[3]);
  for (std::string rank; std::getline(list, rank, ',');) mine.push_back(static_cast<uint32_t>(std::stoul(rank)));
  const HcclRootInfo root = root_of(release, mine[0] == 0, arguments[5]);
  std::vector<std::string> found(mine.size());
  std::vector<std::thread> threads;
  if (deed == "times") {
    Cann& cann = Cann::of(release);
    CANN(aclInit)(nullptr);
    CANN(cann_sim_record)(1);
  }
  for (size_t i = 0; i < mine.size(); ++i)
    threads.emplace_back([&, i] { found[i] = deed_of(release, ranks, mine[i], deed, root, arguments[5]); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : found) std::fputs(text.c_str(), stdout);
  const char* left = Cann::of(release).get<decltype(cann_sim_leaks)>("cann_sim_leaks")();
  EXPECT_STREQ(left, "");
  return testing::Test::HasFailure();
}

}  // namespace
}  // namespace cann_test

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return count == 6 ? cann_test::run(arguments) : 2;
}
