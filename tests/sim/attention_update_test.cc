// aclnnAttentionUpdate: parts of an attention merged against the formula in double, and each rule broken
// once.

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "sim/cann.h"

namespace cann_test {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Format {
  aclDataType dtype;
  size_t bytes;
  int digits;  // of the significand

  // Of a value that it holds exactly: zero, or normal.
  uint32_t bits_of(float value) const {
    const auto bits = std::bit_cast<uint32_t>(value);
    if (dtype == ACL_FLOAT) return bits;
    if (dtype == ACL_BF16) return bits >> 16;
    if (value == 0) return 0;
    return (bits >> 16 & 0x8000u) | ((bits >> 23 & 0xffu) - 112u) << 10 | (bits >> 13 & 0x3ffu);
  }
  float value_of(uint32_t bits) const {
    if (dtype == ACL_FLOAT) return std::bit_cast<float>(bits);
    if (dtype == ACL_BF16) return from_bf16(static_cast<uint16_t>(bits));
    const auto exponent = static_cast<int>(bits >> 10 & 31u);
    const auto fraction = static_cast<float>(bits & 0x3ffu);
    const float magnitude = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    return bits & 0x8000u ? -magnitude : magnitude;
  }
};

constexpr Format kFormats[] = {{ACL_FLOAT, 4, 24}, {ACL_FLOAT16, 2, 11}, {ACL_BF16, 2, 8}};

/// Parts of an attention: values are multiples of 1/32 below 4, so that every format holds them.
struct Parts {
  std::vector<std::vector<float>> lse, values;  // [part][row], [part][row * width]
  size_t rows, width;

  Parts(size_t count, size_t row_count, size_t dim) : rows(row_count), width(dim) {
    uint32_t state = 1;
    const auto next = [&state] { return (state = state * 1664525u + 1013904223u) >> 24; };  // 0..255
    for (size_t part = 0; part < count; ++part) {
      lse.emplace_back();
      values.emplace_back();
      for (size_t i = 0; i < rows; ++i) lse.back().push_back(static_cast<float>(next()) / 16 - 8);
      for (size_t i = 0; i < rows * width; ++i)
        values.back().push_back((static_cast<float>(next()) - 128) / 32);
    }
  }
  double merged_lse(size_t row) const {
    double sum = 0;
    for (const auto& part : lse) sum += std::exp(double{part[row]});
    return std::log(sum);
  }
  double weight(size_t part, size_t row) const { return std::exp(lse[part][row] - merged_lse(row)); }
  double merged(size_t at) const {
    double sum = 0;
    for (size_t part = 0; part < lse.size(); ++part) sum += weight(part, at / width) * values[part][at];
    return sum;
  }
  // Of weights, relative, and of sums, absolute: roundings of sums, products and exponents up to `reach`.
  double error_of_f32(size_t row) const {
    double reach = std::abs(merged_lse(row));
    for (const auto& part : lse)
      if (!std::isinf(part[row])) reach = std::max(reach, std::abs(double{part[row]}));
    return (2 * static_cast<double>(lse.size()) + 4 + 4 * reach) * 0x1p-24;
  }
  double merged_magnitude(size_t at) const {
    double sum = 0;
    for (size_t part = 0; part < lse.size(); ++part)
      sum += weight(part, at / width) * std::abs(values[part][at]);
    return sum;
  }
};

class AttentionUpdate : public testing::TestWithParam<const char*> {
 protected:
  struct Merged {
    std::vector<float> out, lse;
  };
  void* upload(const std::vector<float>& values, const Format& format) {
    std::vector<char> bytes(values.size() * format.bytes);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t bits = format.bits_of(values[i]);
      std::copy_n(reinterpret_cast<const char*>(&bits), format.bytes, bytes.data() + i * format.bytes);
    }
    return s.upload(bytes);
  }
  Merged merge(const Parts& parts, const Format& format = kFormats[0]) {
    const auto rows = static_cast<int64_t>(parts.rows), width = static_cast<int64_t>(parts.width);
    const size_t count = parts.rows * parts.width;
    std::vector<aclTensor*> lse, values;
    for (size_t i = 0; i < parts.lse.size(); ++i) {
      lse.push_back(s.tensor(s.upload(parts.lse[i]), {rows}, ACL_FLOAT));
      values.push_back(s.tensor(upload(parts.values[i], format), {rows, width}, format.dtype));
    }
    void *out = s.allocate(count * format.bytes), *lse_out = s.allocate(parts.rows * 4);
    EXPECT_EQ(RUN(s, aclnnAttentionUpdate, s.list(lse), s.list(values), int64_t{1},
                  s.tensor(out, {rows, width}, format.dtype), s.tensor(lse_out, {rows}, ACL_FLOAT)),
              0)
        << s.error();
    EXPECT_EQ(s.sync(), 0) << s.error();
    Merged merged{{}, s.download<float>(lse_out, parts.rows)};
    const std::vector<char> bytes = s.download<char>(out, count * format.bytes);
    for (size_t i = 0; i < count; ++i) {
      uint32_t bits = 0;
      std::copy_n(bytes.data() + i * format.bytes, format.bytes, reinterpret_cast<char*>(&bits));
      merged.out.push_back(format.value_of(bits));
    }
    return merged;
  }
  void expect_right(const Parts& parts, const Format& format = kFormats[0]) {
    const Merged merged = merge(parts, format);
    for (size_t at = 0; at < merged.out.size(); ++at) {
      const double rounding = std::max(std::abs(parts.merged(at)) * std::ldexp(1.0, -format.digits),
                                       0x1p-25);  // half of f16's smallest step
      const double f32 = parts.merged_magnitude(at) * parts.error_of_f32(at / parts.width);
      ASSERT_NEAR(merged.out[at], parts.merged(at), rounding + f32)
          << parts.lse.size() << " parts, element " << at << ", dtype " << format.dtype;
    }
    for (size_t row = 0; row < parts.rows; ++row)
      ASSERT_NEAR(merged.lse[row], parts.merged_lse(row), parts.error_of_f32(row)) << "row " << row;
  }

  Session s{GetParam()};
  Cann& cann = s.cann;
};

INSTANTIATE_TEST_SUITE_P(Releases, AttentionUpdate, testing::Values("8.5", "9.0"), [](const auto& info) {
  std::string name = info.param;
  name[1] = '_';
  return name;
});

TEST_P(AttentionUpdate, MergesAsTheFormulaSays) {
  for (const Format& format : kFormats)
    for (const size_t count : {1, 2, 3, 16}) expect_right(Parts(count, 5, count == 3 ? 512 : 8), format);
}

TEST_P(AttentionUpdate, LargeSumsDoNotOverflow) {
  Parts parts(2, 1, 8);
  parts.lse = {{500}, {501}};
  expect_right(parts);
}

TEST_P(AttentionUpdate, APartThatSawNothingCountsNothing) {
  Parts parts(3, 2, 8);
  parts.lse[1][0] = -kInfinity;
  ASSERT_EQ(parts.weight(1, 0), 0);
  expect_right(parts);
}

// What attention tells of a row without keys, +inf, is not what merging takes for one.
TEST_P(AttentionUpdate, InfinityMakesNothingOfANumber) {
  Parts parts(2, 3, 8);
  parts.lse[0] = {kInfinity, -kInfinity, 0};
  parts.lse[1] = {0, -kInfinity, 0};
  const Merged merged = merge(parts);
  for (size_t at = 0; at < merged.out.size(); ++at) EXPECT_EQ(std::isnan(merged.out[at]), at < 16) << at;
  EXPECT_TRUE(std::isnan(merged.lse[0]) && std::isnan(merged.lse[1]));
  EXPECT_NEAR(merged.lse[2], std::log(2.0), 0x1p-23);
}

/// A call that is right but for one thing: three parts of [4, 16] in bf16.
struct Arguments {
  std::vector<aclTensor*> lse, values;
  int64_t type = 1;
  aclTensor *out, *lse_out;
  bool no_lse = false, no_values = false;  // the list itself is null
};

class AttentionUpdateRules : public AttentionUpdate {
 protected:
  aclTensor* sums(int64_t rows = 4) { return s.tensor(s.upload(std::vector<float>(64)), {rows}, ACL_FLOAT); }
  aclTensor* values(std::vector<int64_t> dims = {4, 16}, aclDataType dtype = ACL_BF16) {
    return s.tensor(s.upload(std::vector<float>(8192)), dims, dtype);
  }
  int run(const std::function<void(Arguments&)>& change) {
    Arguments a{{sums(), sums(), sums()}, {values(), values(), values()}, 1, values(), sums()};
    change(a);
    return RUN(s, aclnnAttentionUpdate, a.no_lse ? nullptr : s.list(a.lse),
               a.no_values ? nullptr : s.list(a.values), a.type, a.out, a.lse_out);
  }
  void refused(const std::function<void(Arguments&)>& change, const char* says, int code = kInvalid) {
    EXPECT_EQ(run(change), code) << says;
    EXPECT_THAT(s.error(), HasSubstr(says));
  }
};

INSTANTIATE_TEST_SUITE_P(Releases, AttentionUpdateRules, testing::Values("8.5"));

TEST_P(AttentionUpdateRules, NullIsTold) {
  refused([](Arguments& a) { a.no_lse = true; }, "lse is null", ACLNN_ERR_PARAM_NULLPTR);
  refused([](Arguments& a) { a.no_values = true; }, "localOut is null", ACLNN_ERR_PARAM_NULLPTR);
  refused([](Arguments& a) { a.out = nullptr; }, "out is null", ACLNN_ERR_PARAM_NULLPTR);
}

TEST_P(AttentionUpdateRules, UpdateTypeSaysWhetherTheSumIsWanted) {
  refused([](Arguments& a) { a.type = 2; }, "updateType 2 must be 0");
  refused([](Arguments& a) { a.type = -1; }, "updateType -1 must be 0");
  refused([](Arguments& a) { a.type = 0; }, "lseOut must be null where updateType is 0");
  refused([](Arguments& a) { a.lse_out = nullptr; }, "lseOut is null, updateType 1 wants it");
  EXPECT_EQ(run([](Arguments& a) {
              a.type = 0;
              a.lse_out = nullptr;
            }),
            0)
      << s.error();
  EXPECT_EQ(s.sync(), 0) << s.error();
}

TEST_P(AttentionUpdateRules, OneToSixteenParts) {
  const auto parts = [&](size_t count) {
    return [this, count](Arguments& a) {
      a.lse.clear();
      a.values.clear();
      for (size_t i = 0; i < count; ++i) {
        a.lse.push_back(sums());
        a.values.push_back(values());
      }
    };
  };
  refused(parts(0), "lse has 0 parts, it must have 1 to 16");
  refused(parts(17), "lse has 17 parts, it must have 1 to 16");
  refused([](Arguments& a) { a.values.pop_back(); }, "localOut has 2 parts, lse has 3");
}

TEST_P(AttentionUpdateRules, Shapes) {
  refused([&](Arguments& a) { a.lse[1] = sums(5); }, "lse must have dims [4], has [5]");
  refused([&](Arguments& a) { a.lse[2] = s.tensor(s.allocate(16), {4, 1}, ACL_FLOAT); }, "has [4, 1]");
  refused([&](Arguments& a) { a.values[2] = values({4, 8}); }, "localOut must have dims [4, 16], has [4, 8]");
  refused([&](Arguments& a) { a.values[0] = values({2, 2, 16}); }, "has [2, 2, 16]");
  refused([&](Arguments& a) { a.out = values({4, 4, 4}); }, "out must have 2 to 2 dims");
  refused([&](Arguments& a) { a.out = values({3, 16}); }, "must have dims [3]");
  refused([&](Arguments& a) { a.lse_out = sums(3); }, "lseOut must have dims [4], has [3]");
  for (const int64_t width : {4, 12, 520})
    refused(
        [&](Arguments& a) {
          for (aclTensor*& part : a.values) part = values({4, width});
          a.out = values({4, width});
        },
        "it must be a multiple of 8 in 8..512");
}

TEST_P(AttentionUpdateRules, DtypesAndContiguity) {
  refused([&](Arguments& a) { a.lse[0] = values({4}, ACL_BF16); }, "lse has dtype BF16");
  refused([&](Arguments& a) { a.lse_out = values({4}, ACL_FLOAT16); }, "lseOut has dtype FLOAT16");
  refused([&](Arguments& a) { a.values[1] = values({4, 16}, ACL_INT32); }, "localOut has dtype INT32");
  refused([&](Arguments& a) { a.values[1] = values({4, 16}, ACL_FLOAT); }, "they must be the same");
  refused([&](Arguments& a) { a.out = values({4, 16}, ACL_FLOAT); }, "they must be the same");
  const auto gapped = [&](std::vector<int64_t> dims, std::vector<int64_t> strides, aclDataType dtype) {
    return s.tensor(s.upload(std::vector<float>(256)), dims, dtype, {.strides = strides, .storage = {256}});
  };
  refused([&](Arguments& a) { a.lse[0] = gapped({4}, {2}, ACL_FLOAT); }, "lse must be contiguous");
  refused([&](Arguments& a) { a.lse_out = gapped({4}, {2}, ACL_FLOAT); }, "lseOut must be contiguous");
  refused(
      [&](Arguments& a) {
        a.values[0] = gapped({4, 16}, {32, 1}, ACL_BF16);
      },
      "localOut must be contiguous");
  refused([&](Arguments& a) { a.out = gapped({4, 16}, {32, 1}, ACL_BF16); }, "out must be contiguous");
}

TEST_P(AttentionUpdateRules, InPlaceIsNotDocumented) {
  void *part = s.upload(std::vector<float>(64)), *sum = s.upload(std::vector<float>(4));
  refused(
      [&](Arguments& a) {
        a.values[0] = s.tensor(part, {4, 16}, ACL_BF16);
        a.out = s.tensor(part, {4, 16}, ACL_BF16);
      },
      "out overlaps aclnnAttentionUpdate: localOut");
  refused(
      [&](Arguments& a) {
        a.lse[0] = s.tensor(sum, {4}, ACL_FLOAT);
        a.lse_out = s.tensor(sum, {4}, ACL_FLOAT);
      },
      "lseOut overlaps aclnnAttentionUpdate: lse");
}

TEST_P(AttentionUpdateRules, NoRowsAreNoFault) {
  EXPECT_EQ(run([&](Arguments& a) {
              for (aclTensor*& part : a.lse) part = sums(0);
              for (aclTensor*& part : a.values) part = values({0, 16});
              a.out = values({0, 16});
              a.lse_out = sums(0);
            }),
            0)
      << s.error();
  EXPECT_EQ(s.sync(), 0) << s.error();
}

TEST_P(AttentionUpdateRules, WhatWasNeverWrittenIsTold) {
  EXPECT_EQ(run([&](Arguments& a) { a.values[1] = s.tensor(s.allocate(128), {4, 16}, ACL_BF16); }), 0);
  EXPECT_EQ(s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
  EXPECT_THAT(s.error(), HasSubstr("aclnnAttentionUpdate: localOut: byte 0 of 128 was never written"));
}

// Every operand once: three parts, out and lseOut. A rule makes it fail like any other.
TEST_P(AttentionUpdateRules, IsRecordedAndFailsOnDemand) {
  CANN(cann_sim_record)(1);
  EXPECT_EQ(run([](Arguments&) {}), 0) << s.error();
  EXPECT_EQ(s.sync(), 0) << s.error();
  EXPECT_THAT(CANN(cann_sim_journal)(0),
              HasSubstr("launch aclnnAttentionUpdate " + std::to_string(4 * (4 * 4 + 4 * 16 * 2)) + "\n"));
  CANN(cann_sim_record)(0);
  ASSERT_EQ(CANN(cann_sim_fault)("aclnnAttentionUpdateGetWorkspaceSize nth 1 fail 561002"), 0) << s.error();
  ASSERT_EQ(CANN(cann_sim_fault)("aclnnAttentionUpdate nth 1 fail 561000"), 0) << s.error();
  EXPECT_EQ(run([](Arguments&) {}), 561002);
  EXPECT_EQ(run([](Arguments&) {}), 561000);
  CANN(cann_sim_clear_faults)();
}

}  // namespace
}  // namespace cann_test
