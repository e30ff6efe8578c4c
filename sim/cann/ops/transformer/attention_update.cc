// aclnnAttentionUpdate: attention over parts of the keys becomes attention over all of them. lse = ln(sum
// over i of exp(lse_i)), out = sum over i of exp(lse_i - lse) * localOut_i.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/call.h"

using namespace cann_sim;

namespace {

struct AttentionParts {
  std::vector<View> lse, local_out;  // of each part [rows], [rows, D]
  View out;                          // [rows, D]
  std::optional<View> lse_out;       // [rows]
};

// By IEEE's rules throughout: a part of -inf has weight 0, one of +inf, or -inf in every part, makes NaN.
void merge(const AttentionParts& parts) {
  const auto rows = static_cast<size_t>(parts.out.dim(0)), width = static_cast<size_t>(parts.out.dim(1));
  std::vector<std::vector<float>> lse, values;
  for (const View& part : parts.lse) lse.push_back(load(part));
  for (const View& part : parts.local_out) values.push_back(load(part));
  std::vector<float> merged(rows), out(rows * width);
  for (size_t row = 0; row < rows; ++row) {
    float max = -std::numeric_limits<float>::infinity(), sum = 0;
    for (const std::vector<float>& part : lse) max = std::max(max, part[row]);
    for (const std::vector<float>& part : lse) sum += std::exp(part[row] - max);
    merged[row] = max + std::log(sum);
    for (size_t i = 0; i < lse.size(); ++i) {
      const float weight = std::exp(lse[i][row] - merged[row]);
      for (size_t at = row * width; at < (row + 1) * width; ++at) out[at] += weight * values[i][at];
    }
  }
  store(parts.out, out);
  if (parts.lse_out) store(*parts.lse_out, merged);
}

}  // namespace

extern "C" {

aclnnStatus aclnnAttentionUpdateGetWorkspaceSize(const aclTensorList* lse, const aclTensorList* localOut,
                                                 int64_t updateType, aclTensor* out, aclTensor* lseOut,
                                                 CANN_SIM_WS) {
  return describe("aclnnAttentionUpdate", workspaceSize, executor, [&](Call& call) {
    AttentionParts parts{.lse = call.in_list("lse", lse, {ACL_FLOAT}),
                         .local_out = call.in_list("localOut", localOut, kFloats),
                         .out = call.out("out", out, kFloats),
                         .lse_out = {}};
    const size_t count = parts.lse.size();
    call.require(count >= 1 && count <= 16, "lse has {} parts, it must have 1 to 16", count);
    call.require(parts.local_out.size() == count, "localOut has {} parts, lse has {}", parts.local_out.size(),
                 count);
    call.require(updateType == 0 || updateType == 1, "updateType {} must be 0 (out) or 1 (out and lseOut)",
                 updateType);
    call.require(updateType == 1 || !lseOut, "lseOut must be null where updateType is 0");
    call.require(updateType == 0 || lseOut, "lseOut is null, updateType 1 wants it");
    if (lseOut) parts.lse_out = call.out("lseOut", lseOut, {ACL_FLOAT});
    call.rank(parts.out, 2, 2);
    const int64_t rows = parts.out.dim(0), width = parts.out.dim(1);
    call.require(width >= 8 && width <= 512 && width % 8 == 0,
                 "out is {} wide, it must be a multiple of 8 in 8..512", width);
    for (const View& part : parts.lse) {
      call.dims(part, {rows});
      call.contiguous(part);
    }
    for (const View& part : parts.local_out) {
      call.same_dtype(part, parts.out);
      call.dims(part, {rows, width});
      call.contiguous(part);
    }
    if (parts.lse_out) {
      call.dims(*parts.lse_out, {rows});
      call.contiguous(*parts.lse_out);
    }
    call.contiguous(parts.out);
    call.workspace(1024);
    call.run([parts] { merge(parts); });
  });
}
CANN_SIM_LAUNCH(aclnnAttentionUpdate)

}  // extern "C"
