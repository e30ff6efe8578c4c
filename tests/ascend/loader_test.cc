// How an installed CANN is found and told apart.

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <filesystem>
#include <fstream>

#include "ascend/simulator.h"
#include "device/ascend/cann_loader.h"
#include "device/ascend/kernels.h"
#include "support/temp_dir.h"

namespace longspan::ascend {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing_support::Simulator;
using testing_support::TempDir;

namespace fs = std::filesystem;

TEST(CannLoader, EveryReleaseTellsItsVersion) {
  for (const char* release : {"8.1", "8.3", "8.5", "9.0"})
    EXPECT_EQ(Cann(Simulator(release).home()).version(), release);
}

// Of two installations, one that has a runtime and no more is not filled up from the other.
TEST(CannLoader, InstallationsDoNotMix) {
  const Simulator whole("8.5");
  const TempDir folder;
  fs::create_symlink(whole.home() + "/lib64/libascendcl.so", folder.path() / "libascendcl.so");
  const std::string broken = folder.path().string() + "/", intact = whole.home() + "/lib64/";
  try {
    const Cann mixed({broken, intact});
    ADD_FAILURE() << "two installations were mixed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("no libnnopbase.so"), HasSubstr(broken), Not(HasSubstr(intact))));
  }
  const TempDir empty;
  EXPECT_EQ(Cann({empty.path().string() + "/", intact}).version(), "8.5") << "nothing there: the next place";
}

TEST(CannLoader, TheToolkitsOwnRecordNamesItsVersion) {
  const TempDir folder;
  EXPECT_EQ(installed_version(folder.path().string()), "");
  fs::create_directories(folder.path() / "x86_64-linux");
  std::ofstream(folder.path() / "x86_64-linux/ascend_toolkit_install.info")
      << "package_name=Ascend-cann-toolkit\nversion=8.2.RC1\ninnerversion=V100R001C22\n";
  EXPECT_EQ(installed_version(folder.path().string()), "8.2.RC1");
}

TEST(CannLoader, VersionsAreCompared) {
  EXPECT_TRUE(is_at_least("8.5", 8, 5));
  EXPECT_TRUE(is_at_least("8.5.0.alpha003", 8, 5));
  EXPECT_TRUE(is_at_least("9.0.0", 8, 5));
  EXPECT_TRUE(is_at_least("10.1", 9, 7));
  EXPECT_FALSE(is_at_least("8.3.RC1", 8, 5));
  for (const char* unknown : {"", "unknown", "8", "8.", "CANN 9.0"}) EXPECT_FALSE(is_at_least(unknown, 8, 0));
}

TEST(CannLoader, AttentionIsLaunchedByRelease) {
  for (const char* older : {"8.1", "8.3.RC1", "unknown"}) EXPECT_TRUE(takes_two_launches(0, older)) << older;
  for (const char* newer : {"8.5", "9.0.0"}) EXPECT_FALSE(takes_two_launches(0, newer)) << newer;
  EXPECT_TRUE(takes_two_launches(2, "9.0"));
  EXPECT_FALSE(takes_two_launches(1, "unknown"));
}

// The routing of 128 experts with hidden size 2048 (Qwen3-30B-A3B) goes to V2 in older releases.
TEST(CannLoader, RoutingIsChosenByReleaseAndModel) {
  const Cann cann(Simulator("8.5").home()), old(Simulator("8.1").home());
  EXPECT_TRUE(takes_routing_v3(cann.ops, "8.5", 128, 2048));
  for (const char* version : {"8.3.RC1", "unknown"}) {
    EXPECT_FALSE(takes_routing_v3(cann.ops, version, 128, 2048)) << version;
    EXPECT_TRUE(takes_routing_v3(cann.ops, version, 64, 2048)) << version;
    EXPECT_TRUE(takes_routing_v3(cann.ops, version, 128, 4096)) << version;
  }
  EXPECT_FALSE(takes_routing_v3(old.ops, "8.1", 64, 2048)) << "V3 is not there";
  AclnnApi without_v2 = cann.ops;
  without_v2.init_routing_v2.describe = nullptr;
  EXPECT_TRUE(takes_routing_v3(without_v2, "unknown", 128, 2048)) << "V2 is not there";
}

}  // namespace
}  // namespace longspan::ascend
