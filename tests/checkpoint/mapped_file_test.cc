#include "checkpoint/mapped_file.h"

#include <gtest/gtest.h>

#include "checkpoint/error_matcher.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing_support::TempDir;

// A file that is gone between a look at the folder and the open is this same case: nothing is measured by
// name.
TEST(MappedFile, AVanishedFile) {
  TempDir folder;
  const auto path = folder.write("model.safetensors", "x");
  std::filesystem::remove(path);
  EXPECT_TRUE(throws_error([&] { MappedFile file(path); }, ErrorCode::kUnreadable, "No such file"));
}

TEST(MappedFile, AFileRemovedWhileMappedStaysReadable) {
  TempDir folder;
  const auto path = folder.write("x", "weights");
  const MappedFile file(path);
  std::filesystem::remove(path);
  EXPECT_EQ(std::to_integer<char>(file.bytes()[6]), 's');
  file.drop_pages(file.bytes().data(), file.bytes().size());
  EXPECT_EQ(std::to_integer<char>(file.bytes()[6]), 's');
}

TEST(MappedFile, WhatIsNoRegularFile) {
  EXPECT_TRUE(
      throws_error([] { MappedFile file("/dev/null"); }, ErrorCode::kUnreadable, "can't read /dev/null"));
  EXPECT_TRUE(throws_error([] { MappedFile file("/"); }, ErrorCode::kUnreadable, "Is a directory"));
}

TEST(MappedFile, ContainsItsOwnBytesOnly) {
  TempDir folder;
  MappedFile first(folder.write("x", "abc"));
  const std::byte* data = first.bytes().data();
  const MappedFile moved = std::move(first);
  EXPECT_TRUE(moved.contains(data));
  EXPECT_TRUE(moved.contains(data + 2));
  EXPECT_FALSE(moved.contains(data + 3));
  EXPECT_FALSE(MappedFile(folder.write("empty", "")).contains(data));
}

TEST(ReadTextFile, RefusesMoreThanItsLimit) {
  TempDir folder;
  const auto path = folder.write("config.json", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_TRUE(throws_error([&] { read_text_file(path, 4); }, ErrorCode::kUnreadable, "at most 4"));
}

}  // namespace
}  // namespace longspan
