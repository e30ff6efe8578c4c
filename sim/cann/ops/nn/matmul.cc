// aclnnMm, aclnnMatmul: strided views are taken as they are, which is how a transposed weight is given.

#include "core/call.h"
#include "core/multiply.h"

using namespace cann_sim;

namespace {

void describe_product(Call& call, const aclTensor* self, const aclTensor* mat2, aclTensor* out,
                      int8_t cube_math) {
  const View a = call.in("self", self, kFloats), b = call.in("mat2", mat2, kFloats);
  const View c = call.out("out", out, kFloats);
  call.require(cube_math >= 0 && cube_math <= 4, "cubeMathType {} is not one of 0..4", cube_math);
  for (const View* view : {&a, &b, &c}) call.rank(*view, 2, 2);
  call.same_dtype(a, b);
  call.same_dtype(a, c);
  call.require(a.dim(1) == b.dim(0), "self is {}, mat2 is {}: the inner dims disagree", text_of(a.dims),
               text_of(b.dims));
  call.dims(c, {a.dim(0), b.dim(1)});
  call.workspace(4096);
  call.flops(2.0 * static_cast<double>(a.count()) * static_cast<double>(b.dim(1)));
  call.run([=] {
    const std::vector<float> x = load(a), y = load(b);
    std::vector<float> z(static_cast<size_t>(c.count()));
    multiply(x.data(), y.data(), z.data(), a.dim(0), a.dim(1), b.dim(1));
    store(c, z);
  });
}

}  // namespace

extern "C" {

aclnnStatus aclnnMmGetWorkspaceSize(const aclTensor* self, const aclTensor* mat2, aclTensor* out,
                                    int8_t cubeMathType, CANN_SIM_WS) {
  return describe("aclnnMm", workspaceSize, executor,
                  [&](Call& call) { describe_product(call, self, mat2, out, cubeMathType); });
}
CANN_SIM_LAUNCH(aclnnMm)

// Of two matrices; batches are not here.
aclnnStatus aclnnMatmulGetWorkspaceSize(const aclTensor* self, const aclTensor* mat2, aclTensor* out,
                                        int8_t cubeMathType, CANN_SIM_WS) {
  return describe("aclnnMatmul", workspaceSize, executor,
                  [&](Call& call) { describe_product(call, self, mat2, out, cubeMathType); });
}
CANN_SIM_LAUNCH(aclnnMatmul)

}  // extern "C"
