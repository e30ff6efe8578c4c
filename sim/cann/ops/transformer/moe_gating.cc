// aclnnMoeGatingTopKSoftmaxV2.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/call.h"

using namespace cann_sim;

namespace {

struct Gating {
  View x, y, ids;
  std::optional<View> softmax;  // of every expert
  int64_t k;
  bool renormalise;
};

// softmax, then the k largest (of equal ones the lowest id first), then divided by their sum where asked for.
void gate(const Gating& g) {
  const std::vector<float> x = load(g.x);
  const int64_t experts = g.x.dim(1), rows = g.x.dim(0);
  std::vector<float> y, all;
  std::vector<int64_t> ids;
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int64_t row = 0; row < rows; ++row) {
    const float* logits = x.data() + row * experts;
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
    double sum = 0;
    const int64_t among = g.renormalise ? g.k : experts;
    const auto power = [&](int64_t expert) { return std::exp(double{logits[expert]} - logits[order[0]]); };
    for (int64_t j = 0; j < among; ++j) sum += power(order[j]);
    for (int64_t j = 0; j < g.k; ++j) {
      y.push_back(static_cast<float>(power(order[j]) / sum));
      ids.push_back(order[j]);
    }
    for (int64_t e = 0; g.softmax && e < experts; ++e) all.push_back(static_cast<float>(power(e) / sum));
  }
  if (g.softmax) store(*g.softmax, all);
  store(g.y, y);
  store_integers(g.ids, ids);
}

}  // namespace

extern "C" {

aclnnStatus aclnnMoeGatingTopKSoftmaxV2GetWorkspaceSize(const aclTensor* x, const aclTensor* finishedOptional,
                                                        int64_t k, int64_t renorm,
                                                        bool outputSoftmaxResultFlag, const aclTensor* yOut,
                                                        const aclTensor* expertIdxOut,
                                                        const aclTensor* softmaxResultOutOptional,
                                                        CANN_SIM_WS) {
  return describe("aclnnMoeGatingTopKSoftmaxV2", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("x", x, kFloats), y = call.out("yOut", yOut, kFloats);
    const View ids = call.out("expertIdxOut", expertIdxOut, {ACL_INT32});
    call.absent("finishedOptional", finishedOptional);
    call.require(renorm == 0 || renorm == 1, "renorm {} must be 0 or 1", renorm);
    call.require(!outputSoftmaxResultFlag || renorm == 0,
                 "outputSoftmaxResultFlag: the simulator knows it with renorm 0 only");
    std::optional<View> softmax;
    if (outputSoftmaxResultFlag) {
      softmax = call.out("softmaxResultOutOptional", softmaxResultOutOptional, {ACL_FLOAT});
      call.dims(*softmax, in.dims);
      call.contiguous(*softmax);
    } else {
      call.absent("softmaxResultOutOptional", softmaxResultOutOptional);
    }
    call.rank(in, 2, 2);
    call.require(k >= 1 && k <= 1024 && k <= in.dim(1), "k = {} must be 1..min(1024, {} experts)", k,
                 in.dim(1));
    call.same_dtype(in, y);
    call.dims(y, {in.dim(0), k});
    call.dims(ids, {in.dim(0), k});
    for (const View* view : {&in, &y, &ids}) call.contiguous(*view);
    call.workspace(128);
    call.run([=] { gate({in, y, ids, softmax, k, renorm == 1}); });
  });
}
CANN_SIM_LAUNCH(aclnnMoeGatingTopKSoftmaxV2)

}  // extern "C"
