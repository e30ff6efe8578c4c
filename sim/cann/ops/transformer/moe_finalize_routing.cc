// aclnnMoeFinalizeRoutingV2, dropPadMode 2: out[r] = sum over j of scales[r, j] * expandedX[idx[r * k + j]].
// Mode 3: expandedX is [experts, capacity, H], and an index of -1 adds nothing. Modes 0 and 1: the same with
// indices in the order of columns, idx[j * rows + r].

#include "core/call.h"

using namespace cann_sim;

extern "C" {

aclnnStatus aclnnMoeFinalizeRoutingV2GetWorkspaceSize(const aclTensor* expandedX,
                                                      const aclTensor* expandedRowIdx, const aclTensor* x1Opt,
                                                      const aclTensor* x2Opt, const aclTensor* biasOpt,
                                                      const aclTensor* scalesOpt,
                                                      const aclTensor* expertIdxOpt, int64_t dropPadMode,
                                                      const aclTensor* out, CANN_SIM_WS) {
  return describe("aclnnMoeFinalizeRoutingV2", workspaceSize, executor, [&](Call& call) {
    const View x = call.in("expandedX", expandedX, kFloats);
    const View index = call.in("expandedRowIdx", expandedRowIdx, {ACL_INT32});
    const View scales = call.in("scalesOpt", scalesOpt, kFloats), to = call.out("out", out, kFloats);
    call.absent("x1Opt", x1Opt);
    call.absent("x2Opt", x2Opt);
    call.absent("biasOpt", biasOpt);
    call.absent("expertIdxOpt", expertIdxOpt);
    call.require(dropPadMode >= 0 && dropPadMode <= 3, "dropPadMode {} must be 0..3", dropPadMode);
    const bool gaps = dropPadMode % 2 == 1, by_column = dropPadMode < 2;
    call.rank(x, gaps ? 3 : 2, gaps ? 3 : 2);
    call.rank(scales, 2, 2);
    call.require(x.count() > 0 && scales.count() > 0, "empty tensors are refused");
    call.require(scales.dtype == x.dtype || (x.dtype == ACL_BF16 && scales.dtype == ACL_FLOAT),
                 "scales is {}, expandedX is {}", name_of(scales.dtype), name_of(x.dtype));
    call.same_dtype(x, to);
    call.require(gaps || x.dim(0) == scales.count(), "expandedX {} must have rows * k = {} rows",
                 text_of(x.dims), scales.count());
    call.dims(index, {scales.count()});
    call.dims(to, {scales.dim(0), x.dim(-1)});
    for (const View* view : {&x, &index, &scales, &to}) call.contiguous(*view);
    call.workspace(64);
    call.run([=, x = x.reshaped({x.count() / x.dim(-1), x.dim(-1)})] {
      const std::vector<float> weight = load(scales);
      const std::vector<int64_t> place = load_integers(index);
      const int64_t k = scales.dim(1), width = x.dim(1);
      for (int64_t row = 0; row < scales.dim(0); ++row) {
        std::vector<float> sum(static_cast<size_t>(width));
        for (int64_t j = 0; j < k; ++j) {
          const int64_t at = by_column ? j * scales.dim(0) + row : row * k + j;
          if (gaps && place[at] == -1) continue;
          if (place[at] < 0 || place[at] >= x.dim(0))
            fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}[{}] = {} is outside {}..{}", index.label, at, place[at],
                 gaps ? -1 : 0, x.dim(0) - 1);
          const std::vector<float> values = load(x.row(place[at]));
          for (int64_t i = 0; i < width; ++i) sum[i] += weight[row * k + j] * values[i];
        }
        store(to.row(row), sum);
      }
    });
  });
}
CANN_SIM_LAUNCH(aclnnMoeFinalizeRoutingV2)

}  // extern "C"
