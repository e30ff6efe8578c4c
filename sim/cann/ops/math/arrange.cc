// aclnnCat, aclnnArgMax.

#include "core/call.h"

using namespace cann_sim;

namespace {

constexpr DTypes kParts = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16, ACL_INT32, ACL_INT64, ACL_INT8};

int64_t product(const std::vector<int64_t>& dims, int64_t begin, int64_t end) {
  int64_t result = 1;
  for (int64_t i = begin; i < end; ++i) result *= dims[i];
  return result;
}

}  // namespace

extern "C" {

aclnnStatus aclnnCatGetWorkspaceSize(const aclTensorList* tensors, int64_t dim, aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnCat", workspaceSize, executor, [&](Call& call) {
    const std::vector<View> parts = call.in_list("tensors", tensors, kParts);
    const View to = call.out("out", out, kParts);
    call.require(!parts.empty(), "tensors is empty");
    const int64_t axis = call.axis(to, dim);
    std::vector<int64_t> sum = to.dims;
    sum[axis] = 0;
    for (const View& part : parts) {
      call.same_dtype(part, to);
      call.require(part.rank() == to.rank(), "tensors and out must have as many dims");
      for (int64_t i = 0; i < to.rank(); ++i)
        call.require(i == axis || part.dims[i] == to.dims[i], "dims {} do not fit {} beside dim {}",
                     text_of(part.dims), text_of(to.dims), axis);
      sum[axis] += part.dims[axis];
    }
    call.dims(to, sum);
    call.run([=] {
      int64_t begin = 0;
      for (const View& part : parts) {
        View slice = to;
        slice.data += begin * to.strides[axis] * size_of(to.dtype);
        slice.dims[axis] = part.dims[axis];
        store_bytes(slice, load_bytes(part));
        begin += part.dims[axis];
      }
    });
  });
}
CANN_SIM_LAUNCH(aclnnCat)

// The first of equal maxima.
aclnnStatus aclnnArgMaxGetWorkspaceSize(const aclTensor* self, int64_t dim, bool keepdim, aclTensor* out,
                                        CANN_SIM_WS) {
  return describe("aclnnArgMax", workspaceSize, executor, [&](Call& call) {
    const View from = call.in("self", self, kFloats), to = call.out("out", out, kIndices);
    const int64_t axis = call.axis(from, dim);
    call.require(from.dims[axis] > 0, "self has nothing along dim {}", axis);
    std::vector<int64_t> wanted = from.dims;
    if (keepdim)
      wanted[axis] = 1;
    else
      wanted.erase(wanted.begin() + axis);
    call.dims(to, wanted);
    call.run([=] {
      const std::vector<float> x = load(from);
      const int64_t length = from.dims[axis], inner = product(from.dims, axis + 1, from.rank());
      std::vector<int64_t> best(static_cast<size_t>(to.count()));
      for (size_t i = 0; i < best.size(); ++i) {
        const int64_t outer = static_cast<int64_t>(i) / inner, at = static_cast<int64_t>(i) % inner;
        const float* first = x.data() + outer * length * inner + at;
        for (int64_t j = 1; j < length; ++j)
          if (first[j * inner] > first[best[i] * inner]) best[i] = j;
      }
      store_integers(to, best);
    });
  });
}
CANN_SIM_LAUNCH(aclnnArgMax)

}  // extern "C"
