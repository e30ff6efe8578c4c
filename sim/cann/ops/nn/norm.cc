// aclnnRmsNorm, aclnnAddRmsNorm, aclnnInplaceAddRmsNorm.

#include <cmath>

#include "core/call.h"

using namespace cann_sim;

namespace {

// gamma's dims must be the last ones of x; rstd has 1 in their place.
void check_shapes(const Call& call, const View& x, const View& gamma, const View& y, const View& rstd) {
  call.require(gamma.rank() >= 1 && gamma.rank() <= x.rank(), "gamma has {} dims, x has {}", gamma.rank(),
               x.rank());
  std::vector<int64_t> kept = x.dims;
  for (int64_t i = 1; i <= gamma.rank(); ++i) {
    call.require(gamma.dim(-i) == x.dim(-i), "gamma {} is not the last dims of x {}", text_of(gamma.dims),
                 text_of(x.dims));
    kept[static_cast<size_t>(x.rank() - i)] = 1;
  }
  call.dims(y, x.dims);
  call.dims(rstd, kept);
  for (const View* view : {&x, &gamma, &y, &rstd}) call.contiguous(*view);
}

// y = x / sqrt(mean(x^2) + epsilon) * gamma, row by row.
void normalise(const std::vector<float>& x, const View& gamma, double epsilon, const View& y,
               const View& rstd) {
  const std::vector<float> weight = load(gamma);
  const size_t width = weight.size();
  std::vector<float> normed(x.size()), scales(width ? x.size() / width : 0);
  for (size_t row = 0; row < scales.size(); ++row) {
    const float* in = x.data() + row * width;
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += double{in[i]} * in[i];
    scales[row] = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon));
    for (size_t i = 0; i < width; ++i) normed[row * width + i] = in[i] * scales[row] * weight[i];
  }
  store(y, normed);
  store(rstd, scales);
}

std::vector<float> sum(const View& a, const View& b) {
  std::vector<float> x = load(a);
  const std::vector<float> y = load(b);
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  return x;
}

constexpr DTypes kFloat = {ACL_FLOAT};

}  // namespace

extern "C" {

aclnnStatus aclnnRmsNormGetWorkspaceSize(const aclTensor* x, const aclTensor* gamma, double epsilon,
                                         const aclTensor* yOut, const aclTensor* rstdOut, CANN_SIM_WS) {
  return describe("aclnnRmsNorm", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("x", x, kFloats), weight = call.in("gamma", gamma, kFloats);
    const View y = call.out("yOut", yOut, kFloats), rstd = call.out("rstdOut", rstdOut, kFloat);
    call.same_dtype(in, y);
    call.require(weight.dtype == in.dtype || weight.dtype == ACL_FLOAT, "gamma is {}, x is {}",
                 name_of(weight.dtype), name_of(in.dtype));
    check_shapes(call, in, weight, y, rstd);
    call.workspace(64);
    call.run([=] { normalise(load(in), weight, epsilon, y, rstd); });
  });
}
CANN_SIM_LAUNCH(aclnnRmsNorm)

aclnnStatus aclnnAddRmsNormGetWorkspaceSize(const aclTensor* x1, const aclTensor* x2, const aclTensor* gamma,
                                            double epsilon, aclTensor* yOut, aclTensor* rstdOut,
                                            aclTensor* xOut, CANN_SIM_WS) {
  return describe("aclnnAddRmsNorm", workspaceSize, executor, [&](Call& call) {
    const View a = call.in("x1", x1, kFloats), b = call.in("x2", x2, kFloats);
    const View weight = call.in("gamma", gamma, kFloats);
    const View y = call.out("yOut", yOut, kFloats), rstd = call.out("rstdOut", rstdOut, kFloat);
    const View x = call.out("xOut", xOut, kFloats);
    for (const View* view : {&b, &weight, &y, &x}) call.same_dtype(a, *view);
    for (const View* view : {&b, &x}) {
      call.dims(*view, a.dims);
      call.contiguous(*view);
    }
    check_shapes(call, a, weight, y, rstd);
    call.run([=] {
      store(x, sum(a, b));
      normalise(load(x), weight, epsilon, y, rstd);
    });
  });
}
CANN_SIM_LAUNCH(aclnnAddRmsNorm)

// x1 becomes the normed sum, x2 the sum.
aclnnStatus aclnnInplaceAddRmsNormGetWorkspaceSize(aclTensor* x1Ref, aclTensor* x2Ref, const aclTensor* gamma,
                                                   double epsilon, const aclTensor* rstdOut, CANN_SIM_WS) {
  return describe("aclnnInplaceAddRmsNorm", workspaceSize, executor, [&](Call& call) {
    const View a = call.in_out("x1Ref", x1Ref, kFloats), b = call.in_out("x2Ref", x2Ref, kFloats);
    const View weight = call.in("gamma", gamma, kFloats), rstd = call.out("rstdOut", rstdOut, kFloat);
    call.same_dtype(a, b);
    call.same_dtype(a, weight);
    call.dims(b, a.dims);
    call.contiguous(b);
    check_shapes(call, a, weight, a, rstd);
    call.run([=] {
      store(b, sum(a, b));
      normalise(load(b), weight, epsilon, a, rstd);
    });
  });
}
CANN_SIM_LAUNCH(aclnnInplaceAddRmsNorm)

}  // extern "C"
