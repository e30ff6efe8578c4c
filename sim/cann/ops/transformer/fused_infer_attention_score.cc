// aclnnFusedInferAttentionScoreV3: what it takes and gives. Rules of layouts and lengths are in
// fused_attention_operands.cc, of masks in fused_attention_mask.cc; what it computes is in
// fused_attention.cc.

#include <algorithm>
#include <map>
#include <string>

#include "ops/transformer/fused_attention_rules.h"

using namespace cann_sim;

namespace {

AttentionLayout layout_of(const Call& call, const char* name) {
  if (!name) fail(ACLNN_ERR_PARAM_NULLPTR, "aclnnFusedInferAttentionScoreV3: inputLayout is null");
  static const std::map<std::string, AttentionLayout> known = {{"BSH", AttentionLayout::kBsh},
                                                               {"BSND", AttentionLayout::kBsnd},
                                                               {"BNSD", AttentionLayout::kBnsd},
                                                               {"TND", AttentionLayout::kTnd}};
  const auto found = known.find(name);
  call.require(found != known.end(), "inputLayout '{}': the simulator knows BSH, BSND, BNSD and TND only",
               name);
  return found->second;
}

void check_precision(const Call& call, const FusedAttention& a, int64_t inner_precise) {
  if (!a.padded())
    call.tiling(inner_precise == 0, "innerPrecise {} must be 0 in TND", inner_precise);
  else if (single_row(a))
    call.tiling(inner_precise == 0 || inner_precise == 1,
                "innerPrecise {} must be 0 or 1 for one query row a request", inner_precise);
  else
    call.tiling(inner_precise >= 0 && inner_precise <= 3, "innerPrecise {} must be 0 to 3", inner_precise);
}

// The query's dims as they were given, with the dim of values.
void take_outputs(Call& call, FusedAttention& a, AttentionLayout layout, const aclTensor* out,
                  const aclTensor* lse, bool wants_lse) {
  const int64_t heads = a.query.dim(-2);
  View to = call.out("attentionOut", out, kHalves);
  call.same_dtype(a.query, to);
  std::vector<int64_t> wanted = a.query.dims, sums = a.query.dims;
  wanted.back() = a.value_dim;
  sums.back() = 1;
  if (layout == AttentionLayout::kBsh) wanted = {wanted[0], wanted[1], heads * a.value_dim};
  if (layout == AttentionLayout::kBnsd) std::swap(wanted[1], wanted[2]);
  call.dims(to, wanted);
  call.contiguous(to);
  a.out = with_heads(call, to, layout, heads, "numHeads");
  if (!lse) {
    call.require(!wants_lse, "softmaxLse is null, softmaxLseFlag is true");
    return;
  }
  const View l = call.out("softmaxLse", lse, {ACL_FLOAT});
  if (!wants_lse) return call.dims(l, {0});
  const bool padded = a.padded();
  if (padded) std::swap(sums[1], sums[2]);
  call.dims(l, sums);
  call.contiguous(l);
  a.lse = padded ? with_heads(call, l, AttentionLayout::kBnsd, heads, "numHeads") : l;
}

// Keys that queries see, and their rows in the pages; the compressed mask stays on the chip.
void count_work(Call& call, const FusedAttention& a) {
  int64_t pairs = 0, keys = 0, rows = 0;
  for (size_t i = 0; i < a.query_lengths.size(); ++i) {
    for (int64_t row = 0; row < a.query_lengths[i]; ++row) {
      const auto [first, last] = a.band.keys_of(row, a.query_lengths[i], a.kv_lengths[i]);
      pairs += std::max(int64_t{0}, last - first);
    }
    keys += a.kv_lengths[i];
    rows += a.query_lengths[i];
  }
  const int64_t heads = a.query.dim(-2), dims = a.key_dim + a.value_dim;
  call.flops(2 * static_cast<double>(pairs) * static_cast<double>(heads * dims));
  call.moves(static_cast<uint64_t>((rows * heads + keys * a.kv_heads) * dims * size_of(a.key.dtype) +
                                   (a.full_mask ? a.full_mask->bytes() : 0)));
}

}  // namespace

extern "C" {

aclnnStatus aclnnFusedInferAttentionScoreV3GetWorkspaceSize(
    const aclTensor* query, const aclTensorList* key, const aclTensorList* value, const aclTensor* pseShift,
    const aclTensor* attenMask, const aclIntArray* actualSeqLengths, const aclIntArray* actualSeqLengthsKv,
    const aclTensor* deqScale1, const aclTensor* quantScale1, const aclTensor* deqScale2,
    const aclTensor* quantScale2, const aclTensor* quantOffset2, const aclTensor* antiquantScale,
    const aclTensor* antiquantOffset, const aclTensor* blockTable, const aclTensor* queryPaddingSize,
    const aclTensor* kvPaddingSize, const aclTensor* keyAntiquantScale, const aclTensor* keyAntiquantOffset,
    const aclTensor* valueAntiquantScale, const aclTensor* valueAntiquantOffset,
    const aclTensor* keySharedPrefix, const aclTensor* valueSharedPrefix,
    const aclIntArray* actualSharedPrefixLen, const aclTensor* queryRope, const aclTensor* keyRope,
    const aclTensor* keyRopeAntiquantScale, int64_t numHeads, double scaleValue, int64_t preTokens,
    int64_t nextTokens, char* inputLayout, int64_t numKeyValueHeads, int64_t sparseMode, int64_t innerPrecise,
    int64_t blockSize, int64_t antiquantMode, bool softmaxLseFlag, int64_t keyAntiquantMode,
    int64_t valueAntiquantMode, const aclTensor* attentionOut, const aclTensor* softmaxLse, CANN_SIM_WS) {
  return describe("aclnnFusedInferAttentionScoreV3", workspaceSize, executor, [&](Call& call) {
    const std::pair<const char*, const void*> refused[] = {{"pseShift", pseShift},
                                                           {"deqScale1", deqScale1},
                                                           {"quantScale1", quantScale1},
                                                           {"deqScale2", deqScale2},
                                                           {"quantScale2", quantScale2},
                                                           {"quantOffset2", quantOffset2},
                                                           {"antiquantScale", antiquantScale},
                                                           {"antiquantOffset", antiquantOffset},
                                                           {"queryPaddingSize", queryPaddingSize},
                                                           {"kvPaddingSize", kvPaddingSize},
                                                           {"keyAntiquantScale", keyAntiquantScale},
                                                           {"keyAntiquantOffset", keyAntiquantOffset},
                                                           {"valueAntiquantScale", valueAntiquantScale},
                                                           {"valueAntiquantOffset", valueAntiquantOffset},
                                                           {"keySharedPrefix", keySharedPrefix},
                                                           {"valueSharedPrefix", valueSharedPrefix},
                                                           {"actualSharedPrefixLen", actualSharedPrefixLen},
                                                           {"queryRope", queryRope},
                                                           {"keyRope", keyRope},
                                                           {"keyRopeAntiquantScale", keyRopeAntiquantScale}};
    for (const auto& [name, argument] : refused) call.absent(name, argument);
    call.require(antiquantMode == 0 && keyAntiquantMode == 0 && valueAntiquantMode == 0,
                 "antiquant modes must be 0 without quantised keys and values");
    const AttentionLayout layout = layout_of(call, inputLayout);
    FusedAttention a;
    a.kv_heads = numKeyValueHeads == 0 ? numHeads : numKeyValueHeads;
    a.block_size = blockSize;
    a.scale = static_cast<float>(scaleValue);
    take_operands(call, a,
                  {.layout = layout,
                   .query = query,
                   .key = key,
                   .value = value,
                   .block_table = blockTable,
                   .query_lengths = actualSeqLengths,
                   .kv_lengths = actualSeqLengthsKv,
                   .heads = numHeads});
    check_precision(call, a, innerPrecise);
    take_mask(call, a, attenMask, {.mode = sparseMode, .before = preTokens, .after = nextTokens});
    take_outputs(call, a, layout, attentionOut, softmaxLse, softmaxLseFlag);
    call.workspace(uint64_t{1} << 16);
    count_work(call, a);
    call.run([a] { attend(a); });
  });
}
CANN_SIM_LAUNCH(aclnnFusedInferAttentionScoreV3)

}  // extern "C"
