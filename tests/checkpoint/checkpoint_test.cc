#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "checkpoint/error_matcher.h"
#include "support/safetensors_file.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

namespace fs = std::filesystem;
using testing_support::FileTensor;
using testing_support::make_safetensors;
using testing_support::TempDir;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

FileTensor f32(const std::string& name, std::vector<int64_t> shape, const std::vector<float>& values) {
  return {name, "F32", std::move(shape), bytes_of(values)};
}

FileTensor bf16(const std::string& name, std::vector<int64_t> shape, const std::vector<uint16_t>& values) {
  return {name, "BF16", std::move(shape), bytes_of(values)};
}

std::string index_text(const std::string& map) {
  return R"({"metadata":{"total_size":1},"weight_map":)" + map + "}";
}

TEST(Checkpoint, OneFile) {
  TempDir folder;
  folder.write("model.safetensors",
               make_safetensors({f32("m", {2, 3}, {1, 2, 3, 4, 5, 6}),
                                 bf16("v", {2}, {0x3f80, 0xc000}),
                                 {"h", "F16", {1, 2}, bytes_of<uint16_t>({0x3c00, 0x3800})}}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_THAT(checkpoint.names(), testing::ElementsAre("h", "m", "v"));
  EXPECT_EQ(checkpoint.bytes(), 24 + 4 + 4);
  EXPECT_EQ(checkpoint.main_dtype(), DType::kF32);
  EXPECT_TRUE(checkpoint.has("v"));
  EXPECT_FALSE(checkpoint.has("w"));

  const WeightView m = checkpoint.view("m", 2, 3);
  EXPECT_EQ(m.dtype, DType::kF32);
  EXPECT_EQ(m.at(1, 0), 4);
  EXPECT_EQ(m.slice_rows(1, 1).at(0, 2), 6);
  EXPECT_EQ(m.slice_cols(1, 2).at(1, 1), 6);
  EXPECT_EQ(checkpoint.view("v", 1, 2).at(0, 1), -2);
  EXPECT_EQ(checkpoint.view("h", 1, 2).at(0, 1), 0.5f);
}

TEST(Checkpoint, Shards) {
  TempDir folder;
  folder.write("one.safetensors", make_safetensors({f32("a", {1}, {1}), f32("unnamed", {1}, {9})}));
  folder.write("two.safetensors", make_safetensors({f32("b", {1}, {2}), f32("a", {1}, {7})}));
  folder.write("model.safetensors.index.json",
               index_text(R"({"a":"one.safetensors","b":"two.safetensors"})"));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_THAT(checkpoint.names(), testing::ElementsAre("a", "b"));
  EXPECT_EQ(checkpoint.bytes(), 8);
  EXPECT_EQ(checkpoint.view("a", 1, 1).at(0, 0), 1) << "the index decides which copy counts";
  EXPECT_EQ(checkpoint.view("b", 1, 1).at(0, 0), 2);
}

TEST(Checkpoint, AMovedCheckpointKeepsItsViews) {
  TempDir folder;
  folder.write("model.safetensors", make_safetensors({f32("a", {1, 2}, {3, 4})}));
  Checkpoint first = Checkpoint::open(folder.path());
  const WeightView view = first.view("a", 1, 2);
  const Checkpoint second = std::move(first);
  EXPECT_EQ(view.at(0, 1), 4);
  EXPECT_EQ(second.view("a", 1, 2).data, view.data);
}

TEST(Checkpoint, DroppedPagesComeBack) {
  TempDir folder;
  std::vector<float> values(3 * 4096);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  folder.write("model.safetensors", make_safetensors({f32("a", {3, 4096}, values)}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const WeightView view = checkpoint.view("a", 3, 4096);
  EXPECT_EQ(view.at(2, 4095), 3 * 4096 - 1);
  checkpoint.drop_pages(view);
  checkpoint.drop_pages(view.slice_cols(17, 100));
  EXPECT_EQ(view.at(2, 4095), 3 * 4096 - 1);
  const float elsewhere = 5;
  checkpoint.drop_pages({&elsewhere, DType::kF32, 1, 1, 1});
  EXPECT_EQ(elsewhere, 5);
}

// Old writers do not pad the header: all tensors of the file then lie at odd addresses.
TEST(Checkpoint, MisalignedTensorsAreAligned) {
  TempDir folder;
  std::string name = "n";
  std::string file;
  do {  // until the header's length is odd
    name += 'n';
    file = make_safetensors({f32(name, {2}, {1.5f, -3}), bf16("b", {1}, {0x3f80})}, 1);
  } while (file[0] % 2 == 0);
  folder.write("model.safetensors", file);
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  std::array<WeightView, 4> views;
  std::vector<std::thread> readers;
  for (WeightView& view : views) {
    readers.emplace_back([&] { view = checkpoint.view(name, 1, 2); });
  }
  for (std::thread& reader : readers) reader.join();
  for (const WeightView& view : views) {
    EXPECT_EQ(view.data, views[0].data) << "one copy for all";
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 4, 0u);
    EXPECT_EQ(view.at(0, 1), -3);
  }
  EXPECT_EQ(checkpoint.view("b", 1, 1).at(0, 0), 1);
  checkpoint.drop_pages(views[0]);
  EXPECT_EQ(views[0].at(0, 0), 1.5f);
}

TEST(Checkpoint, WrongViews) {
  TempDir folder;
  folder.write("model.safetensors", make_safetensors({f32("model.norm.weight", {4}, {1, 2, 3, 4}),
                                                      f32("cube", {1, 2, 2}, {1, 2, 3, 4})}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto refused = [&](const char* name, int64_t rows, int64_t cols, const char* message) {
    return throws_error([&] { checkpoint.view(name, rows, cols); }, ErrorCode::kUnreadable, message);
  };
  EXPECT_TRUE(refused("model.norm.weight", 1, 5, "shape [4], config.json asks for [5]"));
  EXPECT_TRUE(refused("model.norm.weight", 2, 2, "asks for [2, 2]"));
  EXPECT_TRUE(refused("model.norm.weight", 4, 1, "asks for [4, 1]"));
  EXPECT_TRUE(refused("cube", 2, 2, "shape [1, 2, 2]"));
  EXPECT_TRUE(refused("model.norms.weight", 1, 4, "nearest name is 'model.norm.weight'"));
}

class BadFolder : public testing::Test {
 protected:
  testing::AssertionResult refused(ErrorCode code, const std::string& message) {
    return throws_error([&] { Checkpoint::open(folder_.path()); }, code, message);
  }
  void write_index(const std::string& map) { folder_.write("model.safetensors.index.json", index_text(map)); }
  void write_shard(const std::string& name) { folder_.write(name, make_safetensors({f32("a", {1}, {1})})); }

  TempDir folder_;
};

TEST_F(BadFolder, Missing) {
  EXPECT_TRUE(throws_error([&] { Checkpoint::open(folder_.path() / "no"); }, ErrorCode::kUnreadable,
                           "no model folder"));
}

TEST_F(BadFolder, Empty) {
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "has no model.safetensors or"));
}

TEST_F(BadFolder, Gguf) {
  folder_.write("llama-q4.gguf", "GGUF");
  EXPECT_TRUE(refused(ErrorCode::kNotSupported, "holds a GGUF model (llama-q4.gguf)"));
  EXPECT_TRUE(throws_error([&] { Checkpoint::open(folder_.path() / "llama-q4.gguf"); },
                           ErrorCode::kNotSupported, "is a GGUF file"));
}

TEST_F(BadFolder, PyTorchFiles) {
  folder_.write("pytorch_model.bin", "PK");
  EXPECT_TRUE(refused(ErrorCode::kNotSupported, "pytorch_model.bin"));
}

TEST_F(BadFolder, EmptyFile) {
  folder_.write("model.safetensors", "");
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "this one has 0 bytes"));
}

TEST_F(BadFolder, AFolderInPlaceOfTheFile) {
  fs::create_directory(folder_.path() / "model.safetensors");
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "Is a directory"));
}

TEST_F(BadFolder, MissingShard) {
  write_shard("one.safetensors");
  write_index(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})");
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "two.safetensors is missing"));
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "holds 2 tensors, e.g. 'b'"));
}

TEST_F(BadFolder, AShardThatIsADeadLink) {
  fs::create_symlink("nowhere", folder_.path() / "one.safetensors");
  write_index(R"({"a":"one.safetensors"})");
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "one.safetensors is missing"));
}

TEST_F(BadFolder, ATensorThatTheShardLacks) {
  write_shard("one.safetensors");
  write_index(R"({"a":"one.safetensors","b":"one.safetensors"})");
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "one.safetensors holds tensor 'b', but it does not"));
}

TEST_F(BadFolder, BadIndex) {
  write_shard("one.safetensors");
  const auto expect = [&](const std::string& text, const std::string& message) {
    folder_.write("model.safetensors.index.json", text);
    EXPECT_TRUE(refused(ErrorCode::kUnreadable, message)) << text;
  };
  expect("", "not valid JSON");
  expect("{", "not valid JSON");
  expect("[]", "weight_map");
  expect("{}", "weight_map");
  expect(R"({"weight_map":[]})", "weight_map");
  expect(R"({"weight_map":{}})", "names no tensor");
  expect(R"({"weight_map":{"a":3}})", "file of 'a' must be a string");
  expect(R"({"weight_map":{"a":"../one.safetensors"}})", "within the folder");
  expect(R"({"weight_map":{"a":"/etc/passwd"}})", "within the folder");
  expect(R"({"weight_map":{"a":""}})", "within the folder");
  expect(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})", "appears twice");
}

TEST_F(BadFolder, ATruncatedShard) {
  const std::string whole = make_safetensors({f32("a", {64}, std::vector<float>(64))});
  folder_.write("model.safetensors", whole.substr(0, whole.size() - 1));
  EXPECT_TRUE(refused(ErrorCode::kUnreadable, "unfinished download"));
}

}  // namespace
}  // namespace longspan
