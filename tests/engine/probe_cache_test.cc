#include "engine/probe_cache.h"

#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <map>

#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing_support::read_file;
using testing_support::TempDir;

const std::string kKey = "longspan 0.1.0; --cp 2 over mpi";
constexpr TransferFigures kFigures{
    .attention_flops = 1.0 / 3 * 1e11, .bytes_per_second = 1.25e9, .latency_s = 1.7e-5};

/// Every file of a folder by its name.
std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

TEST(ProbeCache, GivesBackWhatWasKeptUnderTheKey) {
  const TempDir parent;
  const std::filesystem::path folder = parent.path() / "cache" / "longspan";
  EXPECT_FALSE(read_probe(folder, kKey));
  keep_probe(folder, kKey, kFigures);
  EXPECT_EQ(read_probe(folder, kKey), kFigures);
  EXPECT_FALSE(read_probe(folder, kKey + " ")) << "another start";
  keep_probe(folder, kKey + " ", {.attention_flops = 1, .bytes_per_second = 2, .latency_s = 3});
  EXPECT_EQ(read_probe(folder, kKey), kFigures);
  EXPECT_EQ(files_of(folder).size(), 2u) << "and nothing unfinished";
}

TEST(ProbeCache, BelievesNoBrokenFile) {
  const TempDir folder;
  keep_probe(folder.path(), kKey, kFigures);
  const auto [name, whole] = *files_of(folder.path()).begin();
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    folder.write(name, whole.substr(0, bytes));
    EXPECT_FALSE(read_probe(folder.path(), kKey)) << "cut after " << bytes;
  }
  const auto with_flops = [&](const std::string& number) {
    const size_t begin = whole.find("attention_flops ") + 16, end = whole.find('\n', begin);
    return std::string(whole).replace(begin, end - begin, number);
  };
  for (const std::string& text : {whole + "more", with_flops("-1"), with_flops("0"), with_flops("nan"),
                                  with_flops("inf"), with_flops("fast"), std::string("\0\0\0", 3),
                                  std::string("another key") + whole.substr(kKey.size())}) {
    folder.write(name, text);
    EXPECT_FALSE(read_probe(folder.path(), kKey)) << text;
  }
  folder.write(name, with_flops("5"));
  EXPECT_EQ(read_probe(folder.path(), kKey)->attention_flops, 5);
}

TEST(ProbeCache, AFolderThatCantBeWrittenIsNoError) {
  const TempDir folder;
  const std::filesystem::path file = folder.write("file", "not a folder");
  keep_probe(file, kKey, kFigures);
  EXPECT_FALSE(read_probe(file, kKey));
  keep_probe("", kKey, kFigures);
  EXPECT_FALSE(read_probe("", kKey));
  EXPECT_EQ(files_of(folder.path()).size(), 1u);
}

// What is measured differs from start to start in its last digits.
TEST(ProbeCache, AnEngineMeasuresOnceForEachKey) {
  const TempDir cache;
  EngineOptions options;
  options.model = LONGSPAN_SOURCE_DIR "/models/recall-moe";
  options.layout.cp = 2;
  options.threads = 1;
  options.page_size = 16;
  options.max_total_tokens = 512;
  options.cache_folder = cache.path().string();
  Engine::open(options);
  EXPECT_TRUE(files_of(cache.path()).empty()) << "without --kv shard nothing is measured";
  options.shard_kv = true;
  Engine::open(options);
  const auto first = files_of(cache.path());
  ASSERT_EQ(first.size(), 1u);
  Engine::open(options);
  EXPECT_EQ(files_of(cache.path()), first);

  options.page_size = 32;
  Engine::open(options);
  EXPECT_EQ(files_of(cache.path()).size(), 2u);

  options.page_size = 16;
  cache.write(first.begin()->first, "broken");
  Engine::open(options);
  const auto again = files_of(cache.path());
  EXPECT_EQ(again.size(), 2u);
  EXPECT_NE(again.at(first.begin()->first), "broken");
}

}  // namespace
}  // namespace longspan
