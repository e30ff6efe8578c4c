#pragma once

#include <gmock/gmock.h>

#include <cmath>

#include "sim/cann.h"

namespace cann_test {

MATCHER(NearFloat, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= 1e-5f * (1 + std::abs(std::get<1>(arg)));
}

class Operators : public testing::Test {
 protected:
  explicit Operators(const std::string& release = "8.5") : s(release) {}

  Session s;
  Cann& cann = s.cann;

  aclTensor* floats(const std::vector<float>& values, std::vector<int64_t> dims) {
    return s.tensor(s.upload(values), std::move(dims), ACL_FLOAT);
  }
  aclTensor* ints(const std::vector<int32_t>& values, std::vector<int64_t> dims) {
    return s.tensor(s.upload(values), std::move(dims), ACL_INT32);
  }
  struct Out {
    void* data;
    size_t count;
    aclTensor* tensor;
  };
  Out out(std::vector<int64_t> dims, aclDataType dtype = ACL_FLOAT) {
    size_t count = 1;
    for (const int64_t d : dims) count *= static_cast<size_t>(d);
    void* data = s.allocate(count * 8);
    return {data, count, s.tensor(data, std::move(dims), dtype)};
  }
  template <class T = float>
  std::vector<T> result(const Out& o) {
    EXPECT_EQ(s.sync(), 0) << s.error();
    return s.download<T>(o.data, o.count);
  }
  void expect_ok(int status) { ASSERT_EQ(status, 0) << s.error(); }
  void expect_refused(int status, int code, const char* says) {
    EXPECT_EQ(status, code);
    EXPECT_THAT(s.error(), testing::HasSubstr(says));
  }
};

}  // namespace cann_test
