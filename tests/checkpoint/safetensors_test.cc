#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "checkpoint/error_matcher.h"
#include "support/safetensors_file.h"

namespace longspan {
namespace {

using testing_support::make_safetensors;
using testing_support::raw_safetensors;

SafetensorsHeader parse_header(const std::string& bytes) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), static_cast<int64_t>(bytes.size()),
                                  "x.safetensors");
}

TEST(Safetensors, ReadsEveryTensorInFileOrder) {
  const std::string bytes = make_safetensors({{"b", "F32", {2, 3}, std::string(24, 'b')},
                                              {"a", "BF16", {4}, std::string(8, 'a')},
                                              {"scalar", "F16", {}, std::string(2, 's')},
                                              {"empty", "F32", {0, 7}, ""}});
  const SafetensorsHeader header = parse_header(bytes);
  ASSERT_EQ(header.tensors.size(), 4u);
  EXPECT_EQ(header.data_begin % 8, 0);
  EXPECT_EQ(header.tensors[0].name, "b");
  EXPECT_EQ(header.tensors[0].dtype, DType::kF32);
  EXPECT_THAT(header.tensors[0].shape, testing::ElementsAre(2, 3));
  EXPECT_EQ(header.tensors[1].name, "a");
  EXPECT_EQ(bytes.substr(header.tensors[1].begin, 8), std::string(8, 'a'));
  EXPECT_TRUE(header.tensors[2].shape.empty());
  EXPECT_EQ(header.tensors[2].end - header.tensors[2].begin, 2);
  EXPECT_EQ(header.tensors[3].begin, header.tensors[3].end);
}

TEST(Safetensors, AFileWithoutTensorsIsFine) {
  EXPECT_TRUE(parse_header(raw_safetensors("{}  ", "")).tensors.empty());
}

TEST(Safetensors, TheHeaderAloneIsEnough) {
  const std::string bytes = make_safetensors({{"a", "F32", {1000}, std::string(4000, 'a')}});
  const auto prefix = std::as_bytes(std::span(bytes)).first(bytes.size() - 4000);
  EXPECT_EQ(parse_safetensors_header(prefix, static_cast<int64_t>(bytes.size()), "x").tensors.size(), 1u);
}

struct BadHeader {
  const char* name;
  std::string header;
  size_t data_bytes;
  ErrorCode code;
  const char* message;
};

std::string one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

std::string two_tensors(const std::string& names, const std::string& first, const std::string& second) {
  const auto tensor = [](const std::string& offsets) {
    return R"(":{"dtype":"F32","shape":[1],"data_offsets":)" + offsets + "}";
  };
  return "{\"" + names.substr(0, 1) + tensor(first) + ",\"" + names.substr(1) + tensor(second) + "}";
}

class BadSafetensors : public testing::TestWithParam<BadHeader> {};

TEST_P(BadSafetensors, IsRefused) {
  const BadHeader& bad = GetParam();
  const std::string bytes = raw_safetensors(bad.header, std::string(bad.data_bytes, '\0'));
  EXPECT_TRUE(throws_error([&] { parse_header(bytes); }, bad.code, bad.message));
  EXPECT_TRUE(throws_error([&] { parse_header(bytes); }, bad.code, "x.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSafetensors,
    testing::Values(
        BadHeader{"not_json", "{\"w\":", 0, kUnreadable, "not valid JSON"},
        BadHeader{"empty_header", "", 0, kUnreadable, "not valid JSON"},
        BadHeader{"not_object", "[1]", 0, kUnreadable, "must be a JSON object"},
        BadHeader{"not_utf8", "{\"w\xff\":1}", 0, kUnreadable, "UTF-8"},
        BadHeader{"overlong_utf8", "{\"w\xc0\xaf\":1}", 0, kUnreadable, "UTF-8"},
        BadHeader{"deep", std::string(100000, '[') + std::string(100000, ']'), 0, kUnreadable,
                  "nests deeper"},
        BadHeader{"deep_unclosed", std::string(1000000, '['), 0, kUnreadable, "nests deeper"},
        BadHeader{"twice", two_tensors("ww", "[0,4]", "[4,8]"), 8, kUnreadable, "'w' appears twice"},
        BadHeader{"metadata", R"({"__metadata__":{"a":1}})", 0, kUnreadable, "__metadata__"},
        BadHeader{"tensor_not_object", R"({"w":3})", 0, kUnreadable, "tensor 'w' must be an object"},
        BadHeader{"no_dtype", R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4, kUnreadable, "has no dtype"},
        BadHeader{"no_shape", R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4, kUnreadable,
                  "has no shape"},
        BadHeader{"no_offsets", R"({"w":{"dtype":"F32","shape":[1]}})", 4, kUnreadable,
                  "has no data_offsets"},
        BadHeader{"extra_field", R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]}})", 4,
                  kUnreadable, "fields other than"},
        BadHeader{"dtype_number", one_tensor("3", "[1]", "[0,4]"), 4, kUnreadable, "unknown dtype 3"},
        BadHeader{"dtype_unknown", one_tensor("\"F99\"", "[1]", "[0,4]"), 4, kUnreadable,
                  "unknown dtype \"F99\""},
        BadHeader{"dtype_fp8", one_tensor("\"F8_E4M3\"", "[4]", "[0,4]"), 4, kNotSupported, "F8_E4M3"},
        BadHeader{"dtype_int", one_tensor("\"I32\"", "[1]", "[0,4]"), 4, kNotSupported,
                  "original checkpoint"},
        BadHeader{"wrong_dtype", one_tensor("\"BF16\"", "[1]", "[0,4]"), 4, kUnreadable, "needs 2 bytes"},
        BadHeader{"shape_text", one_tensor("\"F32\"", "\"1\"", "[0,4]"), 4, kUnreadable,
                  "shape must be a list"},
        BadHeader{"shape_negative", one_tensor("\"F32\"", "[-1]", "[0,4]"), 4, kUnreadable, "whole numbers"},
        BadHeader{"shape_fraction", one_tensor("\"F32\"", "[1.0]", "[0,4]"), 4, kUnreadable, "whole numbers"},
        BadHeader{"shape_huge", one_tensor("\"F32\"", "[18446744073709551615]", "[0,4]"), 4, kUnreadable,
                  "whole numbers"},
        BadHeader{"product_overflows", one_tensor("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0,
                  kUnreadable, "more than 2^63"},
        BadHeader{"product_wraps_to_size", one_tensor("\"F32\"", "[4611686018427387905]", "[0,4]"), 4,
                  kUnreadable, "more than 2^63"},
        BadHeader{"offsets_one", one_tensor("\"F32\"", "[1]", "[0]"), 4, kUnreadable, "two numbers"},
        BadHeader{"offsets_text", one_tensor("\"F32\"", "[1]", "[\"0\",4]"), 4, kUnreadable, "whole numbers"},
        BadHeader{"offsets_backward", one_tensor("\"F32\"", "[1]", "[4,0]"), 4, kUnreadable, "[4, 0]"},
        BadHeader{"offsets_beyond", one_tensor("\"F32\"", "[2]", "[0,8]"), 4, kUnreadable, "4 bytes of data"},
        BadHeader{"hole_before", one_tensor("\"F32\"", "[1]", "[4,8]"), 8, kUnreadable, "[0, 4)"},
        BadHeader{"hole_between", two_tensors("ab", "[0,4]", "[8,12]"), 12, kUnreadable, "[4, 8)"},
        BadHeader{"trailing_bytes", one_tensor("\"F32\"", "[1]", "[0,4]"), 9, kUnreadable,
                  "5 bytes belong to no tensor"},
        BadHeader{"overlap", two_tensors("ab", "[0,4]", "[2,6]"), 6, kUnreadable,
                  "inside the tensor before it"},
        BadHeader{"same_bytes", two_tensors("ab", "[0,4]", "[0,4]"), 4, kUnreadable,
                  "inside the tensor before it"},
        BadHeader{"name_with_newline", "{\"a\\nb\":3}", 0, kUnreadable, "'a?b'"}),
    [](const auto& test) { return test.param.name; });

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string bytes =
      make_safetensors({{"a", "F32", {3}, std::string(12, 'a')}, {"b", "BF16", {5}, std::string(10, 'b')}});
  ASSERT_NO_THROW(parse_header(bytes));
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_TRUE(throws_error([&] { parse_header(bytes.substr(0, length)); }, kUnreadable, "")) << length;
  }
}

TEST(Safetensors, AHugeHeaderIsRefusedBeforeItIsRead) {
  for (const auto& [byte, message] :
       {std::pair<int, const char*>{7, "at most 100000000"}, {3, "only 2 follow"}}) {
    std::string lying = raw_safetensors("{}", "");
    lying[byte] = '\x02';
    EXPECT_TRUE(throws_error([&] { parse_header(lying); }, kUnreadable, message));
  }
}

// One kind of damage after another: always Error, or a header whose claims hold.
TEST(Safetensors, RandomDamageNeverGetsThrough) {
  const std::string good = make_safetensors(
      {{"a", "F32", {3, 2}, std::string(24, 'a')}, {"b", "BF16", {5}, std::string(10, 'b')}});
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (uint32_t edits = random() % 3 + 1; edits > 0; --edits) {
      bytes[random() % bytes.size()] =
          random() % 2 ? static_cast<char>(random()) : "0123456789[]{},:\""[random() % 17];
    }
    try {
      for (const TensorEntry& tensor : parse_header(bytes).tensors) {
        ASSERT_LE(0, tensor.begin);
        ASSERT_LE(tensor.begin, tensor.end);
        ASSERT_LE(tensor.end, std::ssize(bytes));
      }
    } catch (const Error& error) {
      ASSERT_NE(error.code(), ErrorCode::kInternal);
      ++refused;
    }
  }
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace longspan
