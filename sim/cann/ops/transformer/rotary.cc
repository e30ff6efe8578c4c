// aclnnRotaryPositionEmbedding, aclnnApplyRotaryPosEmbV2: halves of a head, or its neighbours, are rotated
// against each other.

#include <cstring>

#include "core/call.h"
#include "core/profile.h"

using namespace cann_sim;

namespace {

// x [B, S, N, D]; cos and sin broadcast to it. x1 cos - x2 sin, x2 cos + x1 sin, where x1 and x2 are D / 2
// apart or neighbours.
void rotate(const View& x, const View& cos, const View& sin, const View& out, bool neighbours = false) {
  const std::vector<float> in = load(x), c = load(cos.broadcast(x.dims)), s = load(sin.broadcast(x.dims));
  std::vector<float> result(in.size());
  const auto dim = static_cast<size_t>(x.dim(3)), half = dim / 2;
  for (size_t head = 0; head < in.size(); head += dim) {
    for (size_t pair = 0; pair < half; ++pair) {
      const size_t i = head + (neighbours ? 2 * pair : pair), j = i + (neighbours ? 1 : half);
      result[i] = in[i] * c[i] - in[j] * s[i];
      result[j] = in[j] * c[j] + in[i] * s[j];
    }
  }
  store(out, result);
}

void check_angles(const Call& call, const View& x, const View& angles) {
  call.same_dtype(x, angles);
  call.rank(angles, 4, 4);
  call.require(angles.dim(3) == x.dim(3), "{} must be D = {} wide, has {}", angles.label, x.dim(3),
               text_of(angles.dims));
  for (int64_t i = 0; i < 3; ++i)
    call.require(angles.dim(i) == 1 || angles.dim(i) == x.dim(i), "{} {} can't be broadcast to {}",
                 angles.label, text_of(angles.dims), text_of(x.dims));
  call.contiguous(angles);
}

}  // namespace

extern "C" {

aclnnStatus aclnnRotaryPositionEmbeddingGetWorkspaceSize(const aclTensor* x, const aclTensor* cos,
                                                         const aclTensor* sin, int64_t mode, aclTensor* out,
                                                         CANN_SIM_WS) {
  return describe("aclnnRotaryPositionEmbedding", workspaceSize, executor, [&](Call& call) {
    const View in = call.in("x", x, kFloats), c = call.in("cos", cos, kFloats);
    const View s = call.in("sin", sin, kFloats), to = call.out("out", out, kFloats);
    call.require(mode == 0 || mode == 1, "mode {} must be 0 (halves) or 1 (neighbours)", mode);
    call.rank(in, 4, 4);
    call.require(in.dim(3) % 2 == 0 && in.dim(3) < 896, "D = {} must be even and below 896", in.dim(3));
    call.require(mode == 1 || (in.dim(0) < 1000 && in.dim(2) < 1000),
                 "B and N of {} must be below 1000 in mode 0", text_of(in.dims));
    call.same_dtype(in, to);
    call.dims(to, in.dims);
    check_angles(call, in, c);
    check_angles(call, in, s);
    call.contiguous(in);
    call.contiguous(to);
    call.run([=] { rotate(in, c, s, to, mode == 1); });
  });
}
CANN_SIM_LAUNCH(aclnnRotaryPositionEmbedding)

aclnnStatus aclnnApplyRotaryPosEmbV2GetWorkspaceSize(aclTensor* queryRef, aclTensor* keyRef,
                                                     const aclTensor* cos, const aclTensor* sin,
                                                     int64_t layout, char* rotaryMode, CANN_SIM_WS) {
  return describe("aclnnApplyRotaryPosEmbV2", workspaceSize, executor, [&](Call& call) {
    const View q = call.in_out("queryRef", queryRef, kFloats), k = call.in_out("keyRef", keyRef, kFloats);
    const View c = call.in("cos", cos, kFloats), s = call.in("sin", sin, kFloats);
    call.require(layout == 1, "layout {}: 1 (BSND) is the one that every version takes", layout);
    if (!rotaryMode) fail(ACLNN_ERR_PARAM_NULLPTR, "aclnnApplyRotaryPosEmbV2: rotaryMode is null");
    call.require(std::strcmp(rotaryMode, "half") == 0, "rotaryMode '{}' must be 'half'", rotaryMode);
    call.same_dtype(q, k);
    for (const View* view : {&q, &k}) {
      call.rank(*view, 4, 4);
      call.contiguous(*view);
      const bool newer = profile().tnd_head_dims_up_to > 128;
      call.require(view->dim(3) == 128 || (newer && view->dim(3) == 64), "D = {} of {} is not supported",
                   view->dim(3), view->label);
    }
    call.require(q.dim(0) == k.dim(0) && q.dim(1) == k.dim(1) && q.dim(3) == k.dim(3),
                 "B, S and D of query {} and key {} disagree", text_of(q.dims), text_of(k.dims));
    for (const View* view : {&c, &s}) {
      call.same_dtype(q, *view);
      call.dims(*view, {q.dim(0), q.dim(1), 1, q.dim(3)});
      call.contiguous(*view);
    }
    call.run([=] {
      rotate(q, c, s, q);
      rotate(k, c, s, k);
    });
  });
}
CANN_SIM_LAUNCH(aclnnApplyRotaryPosEmbV2)

}  // extern "C"
