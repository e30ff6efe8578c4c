#pragma once

#include "device/ascend/acl_api.h"

namespace longspan::ascend {

/// Phase 2 of every operator.
using AclnnLaunch = AclStatus (*)(void* workspace, uint64_t workspace_bytes, AclExecutor* executor,
                                  AclStream stream);

/// Both phases of one operator; null where the installed CANN lacks it. Phase 1 takes Args, then
/// (uint64_t* workspace_bytes, AclExecutor** executor).
template <class... Args>
struct AclnnOp {
  explicit constexpr AclnnOp(const char* n) : name(n) {}
  const char* name;
  AclStatus (*describe)(Args..., uint64_t*, AclExecutor**) = nullptr;
  AclnnLaunch launch = nullptr;
};

using T = const AclTensor*;
using L = const AclTensorList*;
using A = const AclIntArray*;

/// The operators that this backend calls, each with its argument list. Where newer releases have replaced
/// one, both are here and what is found decides.
struct AclnnApi {
  AclnnOp<T, T, double, T, T> rms_norm{"aclnnRmsNorm"};                          // x, gamma, eps, y, rstd
  AclnnOp<T, T, T, int64_t, AclTensor*> rotary{"aclnnRotaryPositionEmbedding"};  // x, cos, sin, mode, out
  AclnnOp<T, T, AclTensor*, int8_t> mm{"aclnnMm"};                               // a, b, out, cube math type
  AclnnOp<T, int64_t, T> swiglu{"aclnnSwiGlu"};                                  // x, dim, out
  AclnnOp<T, int64_t, AclTensor*> softmax{"aclnnSoftmax"};                       // x, dim, out
  AclnnOp<T, T, AclTensor*> mul{"aclnnMul"};                                     // a, b, out
  AclnnOp<T, T, const AclScalar*> inplace_add{"aclnnInplaceAdd"};                // self, other, alpha
  AclnnOp<T, AclDType, AclTensor*> cast{"aclnnCast"};                            // self, dtype, out
  AclnnOp<AclTensor*, T> inplace_copy{"aclnnInplaceCopy"};                       // to, from
  AclnnOp<T, int64_t, bool, AclTensor*> arg_max{"aclnnArgMax"};                  // self, dim, keep dim, out
  AclnnOp<T, T, T> embedding{"aclnnEmbedding"};                                  // weight, indices, out
  AclnnOp<T, int64_t, T, AclTensor*> index_select{"aclnnIndexSelect"};           // self, dim, index, out
  AclnnOp<AclTensor*, T, T> scatter_nd_update{"aclnnScatterNdUpdate"};           // to, indices, updates
  // x, finished, k, renorm, give softmax, y, expert ids, softmax
  AclnnOp<T, T, int64_t, int64_t, bool, T, T, T> gating{"aclnnMoeGatingTopKSoftmaxV2"};
  // x, ids, active, capacity, experts, drop-pad mode, count flag, before-capacity flag; expanded x, row ids,
  // counts INT32, before capacity
  AclnnOp<T, T, int64_t, int64_t, int64_t, int64_t, int64_t, bool, T, T, T, T> init_routing_v2{
      "aclnnMoeInitRoutingV2"};
  // x, ids, scale, offset, active, capacity, experts, drop-pad mode, count type, count flag, quant mode,
  // expert range, row id type; expanded x, row ids, counts INT64, scale
  AclnnOp<T, T, T, T, int64_t, int64_t, int64_t, int64_t, int64_t, bool, int64_t, A, int64_t, T, T, T, T>
      init_routing_v3{"aclnnMoeInitRoutingV3"};
  // x, weight, bias, scale, offset, antiquant scale and offset, per-token scale, group list, activation
  // input, quant scale and offset, split item, group type, group list type, activation; out, feature out,
  // scale out
  AclnnOp<L, L, L, L, L, L, L, L, T, L, L, L, int64_t, int64_t, int64_t, int64_t, AclTensorList*,
          AclTensorList*, AclTensorList*>
      grouped_matmul_v4{"aclnnGroupedMatmulV4"};
  // the same with tuning integers before out
  AclnnOp<L, L, L, L, L, L, L, L, T, L, L, L, int64_t, int64_t, int64_t, int64_t, AclIntArray*,
          AclTensorList*, AclTensorList*, AclTensorList*>
      grouped_matmul_v5{"aclnnGroupedMatmulV5"};
  // expanded x, row ids, x1, x2, bias, scales, expert ids, drop-pad mode, out
  AclnnOp<T, T, T, T, T, T, T, int64_t, T> finalize_routing{"aclnnMoeFinalizeRoutingV2"};
  // query, key, value, pse, mask, query ends, kv lengths | 7 of quantisation | block table, 2 paddings |
  // 4 antiquant | 2 shared prefixes, their length | 3 rope | heads, scale, pre and next tokens, layout, kv
  // heads, sparse mode, inner precise, block size, antiquant mode, give lse, 2 antiquant modes | out, lse
  AclnnOp<T, L, L, T, T, A, A, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, A, T, T, T, int64_t, double,
          int64_t, int64_t, char*, int64_t, int64_t, int64_t, int64_t, int64_t, bool, int64_t, int64_t, T, T>
      fused_attention{"aclnnFusedInferAttentionScoreV3"};
  // lse of 1 .. 16 parts, their results, whether lse is given; out, lse
  AclnnOp<L, L, int64_t, AclTensor*, AclTensor*> attention_update{"aclnnAttentionUpdate"};
};

/// Calls f(op) for every operator of the table.
template <class Api, class F>
void for_each_op(Api& api, F f) {
  f(api.rms_norm), f(api.rotary), f(api.mm), f(api.swiglu), f(api.softmax), f(api.mul), f(api.inplace_add);
  f(api.cast), f(api.inplace_copy), f(api.arg_max), f(api.embedding), f(api.index_select);
  f(api.scatter_nd_update), f(api.gating), f(api.init_routing_v2), f(api.init_routing_v3);
  f(api.grouped_matmul_v4), f(api.grouped_matmul_v5), f(api.finalize_routing), f(api.fused_attention);
  f(api.attention_update);
}

}  // namespace longspan::ascend
