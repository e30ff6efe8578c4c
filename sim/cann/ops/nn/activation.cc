// aclnnSwiGlu, aclnnSilu, aclnnSoftmax.

#include <algorithm>
#include <cmath>

#include "core/call.h"

using namespace cann_sim;

namespace {

float silu(float x) {
  return x / (1.0f + std::exp(-x));
}

// Elements of `view` from one along `dim` to the next.
int64_t inner_of(const View& view, int64_t axis) {
  int64_t inner = 1;
  for (int64_t i = axis + 1; i < view.rank(); ++i) inner *= view.dim(i);
  return inner;
}

}  // namespace

extern "C" {

aclnnStatus aclnnSwiGluGetWorkspaceSize(const aclTensor* x, int64_t dim, const aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnSwiGlu", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("x", x, kFloats), to = call.out("out", out, kFloats);
    call.same_dtype(in, to);
    call.rank(in, 1, 8);
    const int64_t axis = call.axis(in, dim);
    call.require(in.dims[axis] % 2 == 0, "x has an odd number ({}) of columns", in.dims[axis]);
    std::vector<int64_t> half = in.dims;
    half[axis] /= 2;
    call.dims(to, half);
    call.contiguous(in);
    call.contiguous(to);
    call.run([=] {
      const std::vector<float> values = load(in);
      std::vector<float> result(values.size() / 2);
      const auto width = static_cast<size_t>(half[axis] * inner_of(in, axis));
      for (size_t i = 0; i < result.size(); ++i) {
        const float* row = values.data() + i / width * 2 * width;
        result[i] = silu(row[i % width]) * row[width + i % width];
      }
      store(to, result);
    });
  });
}
CANN_SIM_LAUNCH(aclnnSwiGlu)

aclnnStatus aclnnSiluGetWorkspaceSize(const aclTensor* self, aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnSilu", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("self", self, kFloats), to = call.out("out", out, kFloats);
    call.same_dtype(in, to);
    call.dims(to, in.dims);
    call.run([=] {
      std::vector<float> values = load(in);
      for (float& value : values) value = silu(value);
      store(to, values);
    });
  });
}
CANN_SIM_LAUNCH(aclnnSilu)

aclnnStatus aclnnSoftmaxGetWorkspaceSize(const aclTensor* self, int64_t dim, aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnSoftmax", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("self", self, kFloats), to = call.out("out", out, kFloats);
    call.same_dtype(in, to);
    call.dims(to, in.dims);
    const int64_t axis = call.axis(in, dim);
    call.run([=] {
      std::vector<float> values = load(in);
      const auto inner = static_cast<size_t>(inner_of(in, axis)),
                 span = static_cast<size_t>(in.dims[axis]) * inner;
      for (size_t outer = 0; outer < values.size(); outer += span) {
        for (float* v = values.data() + outer; v < values.data() + outer + inner; ++v) {
          float max = v[0];
          for (size_t i = 0; i < span; i += inner) max = std::max(max, v[i]);
          double sum = 0;
          for (size_t i = 0; i < span; i += inner) sum += v[i] = std::exp(v[i] - max);
          for (size_t i = 0; i < span; i += inner) v[i] = static_cast<float>(v[i] / sum);
        }
      }
      store(to, values);
    });
  });
}
CANN_SIM_LAUNCH(aclnnSoftmax)

}  // extern "C"
