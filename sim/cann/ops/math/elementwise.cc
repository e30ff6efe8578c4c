// aclnnAdd, aclnnInplaceAdd, aclnnMul, aclnnMuls, aclnnCast, aclnnInplaceCopy. Strided views are taken as
// they are; inputs broadcast to the output.

#include <algorithm>

#include "core/call.h"

using namespace cann_sim;

namespace {

void check_broadcast(const Call& call, const View& in, const View& out) {
  bool fits = in.rank() <= out.rank();
  for (int64_t i = 1; fits && i <= in.rank(); ++i) fits = in.dim(-i) == 1 || in.dim(-i) == out.dim(-i);
  call.require(fits, "{} {} can't be broadcast to {} {}", in.label, text_of(in.dims), out.label,
               text_of(out.dims));
}

// Both broadcast against each other must give `out` exactly.
void check_broadcast(const Call& call, const View& a, const View& b, const View& out) {
  check_broadcast(call, a, out);
  check_broadcast(call, b, out);
  bool exact = out.rank() == std::max(a.rank(), b.rank());
  for (int64_t i = 1; exact && i <= out.rank(); ++i)
    exact = (i <= a.rank() && a.dim(-i) == out.dim(-i)) || (i <= b.rank() && b.dim(-i) == out.dim(-i));
  call.require(exact, "{} {} is larger than what {} and {} broadcast to", out.label, text_of(out.dims),
               text_of(a.dims), text_of(b.dims));
}

template <class Combine>
void binary(const View& a, const View& b, const View& out, Combine combine) {
  const std::vector<float> x = load(a.broadcast(out.dims)), y = load(b.broadcast(out.dims));
  std::vector<float> z(x.size());
  for (size_t i = 0; i < z.size(); ++i) z[i] = combine(x[i], y[i]);
  store(out, z);
}

void binary_integers(const View& a, const View& b, const View& out, int64_t alpha) {
  std::vector<int64_t> x = load_integers(a.broadcast(out.dims));
  const std::vector<int64_t> y = load_integers(b.broadcast(out.dims));
  for (size_t i = 0; i < x.size(); ++i) x[i] += alpha * y[i];
  store_integers(out, x);
}

// Of a sum: one dtype, or FLOAT with one of the halves, which makes FLOAT.
void check_sum(const Call& call, const View& a, const View& b, const View& out) {
  const auto half = [](const View& v) { return v.dtype == ACL_FLOAT16 || v.dtype == ACL_BF16; };
  if (!(a.dtype == ACL_FLOAT && half(b)) && !(half(a) && b.dtype == ACL_FLOAT)) call.same_dtype(a, b);
  call.same_dtype(a.dtype == ACL_FLOAT ? a : b, out);
}

constexpr DTypes kNumbers = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16, ACL_INT32, ACL_INT64};
constexpr DTypes kCopied = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16, ACL_INT32, ACL_INT64, ACL_INT8};

void add(const View& a, const View& b, double alpha, const View& out) {
  if (out.dtype == ACL_INT32 || out.dtype == ACL_INT64)
    return binary_integers(a, b, out, static_cast<int64_t>(alpha));
  binary(a, b, out, [alpha](float x, float y) { return x + static_cast<float>(alpha) * y; });
}

}  // namespace

extern "C" {

aclnnStatus aclnnAddGetWorkspaceSize(const aclTensor* self, const aclTensor* other, const aclScalar* alpha,
                                     aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnAdd", workspaceSize, executor, [&](Call& call) {
    const View a = call.in("self", self, kNumbers), b = call.in("other", other, kNumbers);
    const View to = call.out("out", out, kNumbers);
    const double factor = call.scalar("alpha", alpha);
    call.may_alias();
    check_sum(call, a, b, to);
    check_broadcast(call, a, b, to);
    call.run([=] { add(a, b, factor, to); });
  });
}
CANN_SIM_LAUNCH(aclnnAdd)

aclnnStatus aclnnInplaceAddGetWorkspaceSize(const aclTensor* selfRef, const aclTensor* other,
                                            const aclScalar* alpha, CANN_SIM_WS) {
  return describe("aclnnInplaceAdd", workspaceSize, executor, [&](Call& call) {
    const View to = call.in_out("selfRef", selfRef, kNumbers), b = call.in("other", other, kNumbers);
    const double factor = call.scalar("alpha", alpha);
    check_sum(call, to, b, to);
    check_broadcast(call, b, to);
    call.run([=] { add(to, b, factor, to); });
  });
}
CANN_SIM_LAUNCH(aclnnInplaceAdd)

aclnnStatus aclnnMulGetWorkspaceSize(const aclTensor* self, const aclTensor* other, aclTensor* out,
                                     CANN_SIM_WS) {
  return describe("aclnnMul", workspaceSize, executor, [&](Call& call) {
    const View a = call.in("self", self, kFloats), b = call.in("other", other, kFloats);
    const View to = call.out("out", out, kFloats);
    call.may_alias();
    call.same_dtype(a, b);
    call.same_dtype(a, to);
    check_broadcast(call, a, b, to);
    call.run([=] { binary(a, b, to, [](float x, float y) { return x * y; }); });
  });
}
CANN_SIM_LAUNCH(aclnnMul)

aclnnStatus aclnnMulsGetWorkspaceSize(const aclTensor* self, const aclScalar* other, aclTensor* out,
                                      CANN_SIM_WS) {
  return describe("aclnnMuls", workspaceSize, executor, [&](Call& call) {
    const View a = call.in("self", self, kFloats), to = call.out("out", out, kFloats);
    const auto factor = static_cast<float>(call.scalar("other", other));
    call.may_alias();
    call.same_dtype(a, to);
    call.dims(to, a.dims);
    call.run([=] { binary(a, a, to, [factor](float x, float) { return x * factor; }); });
  });
}
CANN_SIM_LAUNCH(aclnnMuls)

aclnnStatus aclnnCastGetWorkspaceSize(const aclTensor* self, const aclDataType dtype, aclTensor* out,
                                      CANN_SIM_WS) {
  return describe("aclnnCast", workspaceSize, executor, [&](Call& call) {
    const View from = call.in("self", self, kNumbers), to = call.out("out", out, kNumbers);
    call.require(to.dtype == dtype, "out is {}, but dtype says {}", name_of(to.dtype), name_of(dtype));
    call.dims(to, from.dims);
    const bool integers = to.dtype == ACL_INT32 || to.dtype == ACL_INT64;
    call.run([=] {
      if (integers)
        store_integers(to, load_integers(from));
      else
        store(to, load(from));
    });
  });
}
CANN_SIM_LAUNCH(aclnnCast)

aclnnStatus aclnnInplaceCopyGetWorkspaceSize(aclTensor* selfRef, const aclTensor* src, CANN_SIM_WS) {
  return describe("aclnnInplaceCopy", workspaceSize, executor, [&](Call& call) {
    const View to = call.out("selfRef", selfRef, kCopied), from = call.in("src", src, kCopied);
    check_broadcast(call, from, to);
    call.run([=] {
      const View wide = from.broadcast(to.dims);
      if (from.dtype == to.dtype)
        store_bytes(to, load_bytes(wide));
      else
        store(to, load(wide));
    });
  });
}
CANN_SIM_LAUNCH(aclnnInplaceCopy)

}  // extern "C"
