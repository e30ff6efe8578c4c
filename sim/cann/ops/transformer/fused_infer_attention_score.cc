// aclnnFusedInferAttentionScoreV3 in layout TND: the rules. What it computes is in fused_attention.cc.

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "core/call.h"
#include "core/profile.h"
#include "ops/transformer/fused_attention.h"

using namespace cann_sim;

namespace {

constexpr int64_t kMostEntries = 4096, kMostTokens = 1 << 20;

// Which dims of q, k and v fit together, by release.
void check_head_dims(const Call& call, int64_t key_dim, int64_t value_dim, int64_t group) {
  const Profile& p = profile();
  const bool latent = key_dim == 192 && (value_dim == 128 || (value_dim == 192 && group == 1));
  if (!p.tnd_grouped_heads) {
    call.tiling(latent,
                "When layout is TND, queryD({}) and valueD({}) must be 192 and 128: CANN {} has no TND for "
                "equal head dims",
                key_dim, value_dim, p.version);
    return;
  }
  const bool equal = key_dim == value_dim &&
                     (p.tnd_head_dims_up_to > 128 ? key_dim % 16 == 0 && key_dim <= p.tnd_head_dims_up_to
                                                  : key_dim == 64 || key_dim == 128);
  call.tiling(equal || latent,
              "head dims of q, k and v are {}, {} and {}; CANN {} takes equal ones of {}, or "
              "192 with v 128",
              key_dim, key_dim, value_dim, p.version,
              p.tnd_head_dims_up_to > 128 ? "any multiple of 16 up to 256" : "64 or 128");
}

// Lengths of queries and keys: as many of one as of the other, running sums for queries.
void check_lengths(const Call& call, const FusedAttention& a, const std::vector<int64_t>& kv, bool paged) {
  const std::vector<int64_t>& q = a.query_ends;
  call.tiling(!q.empty() && !kv.empty(), "actualSeqLengths and actualSeqLengthsKv are mandatory in TND");
  call.tiling(q.size() == kv.size(), "actualSeqLengths has {} entries, actualSeqLengthsKv has {}", q.size(),
              kv.size());
  call.tiling(static_cast<int64_t>(q.size()) <= kMostEntries, "{} entries; {} at most", q.size(),
              kMostEntries);
  for (size_t i = 0; i < q.size(); ++i) {
    const int64_t length = q[i] - (i ? q[i - 1] : 0);
    call.tiling(length >= 0, "actualSeqLengths[{}] = {} after {}: in TND they are running sums", i, q[i],
                i ? q[i - 1] : 0);
    call.tiling(length > 0, "actualSeqLengths: entry {} has no query rows; leave it out", i);
    call.tiling(kv[i] >= 0 && (paged || i == 0 || kv[i] >= kv[i - 1]),
                "actualSeqLengthsKv[{}] = {}: without pages they are running sums", i, kv[i]);
  }
  const int64_t tokens = a.query.dim(0);
  call.tiling(q.back() <= tokens && (q.back() == tokens || !profile().strict_query_tokens),
              "queryT({}) must be equal to the last element of actualSequenceLengthQ({})", tokens, q.back());
  if (!paged)
    call.tiling(kv.back() == a.key.dim(0),
                "keyT({}) must be equal to the last element of "
                "actualSequenceLengthKV({})",
                a.key.dim(0), kv.back());
}

void check_pages(const Call& call, FusedAttention& a) {
  const View& table = *a.block_table;
  call.rank(table, 2, 2);
  call.contiguous(table);
  call.tiling(table.dim(0) == static_cast<int64_t>(a.query_ends.size()),
              "blockTable has {} rows, there are {} sequences", table.dim(0), a.query_ends.size());
  call.tiling(a.block_size % 128 == 0 && a.block_size >= 128 && a.block_size <= 512,
              "blockSize {} must be a multiple of 128 up to 512", a.block_size);
  call.rank(a.key, 3, 4);
  a.heads_first = a.key.rank() == 4;
  const int64_t page_axis = a.heads_first ? 2 : 1;
  for (const View* cache : {&a.key, &a.value}) {
    call.require(cache->rank() == a.key.rank(), "key and value must have one layout of pages");
    call.require(cache->dim(page_axis) == a.block_size, "{} {} has pages of {} tokens, blockSize says {}",
                 cache->label, text_of(cache->dims), cache->dim(page_axis), a.block_size);
    if (a.heads_first) {
      call.tiling(cache->dim(1) == a.kv_heads, "{} {} has {} heads, numKeyValueHeads says {}", cache->label,
                  text_of(cache->dims), cache->dim(1), a.kv_heads);
    } else {
      call.tiling(cache->dim(2) <= 65535, "{}: Nkv * D = {} must be at most 65535", cache->label,
                  cache->dim(2));
      call.tiling(cache->dim(2) % a.kv_heads == 0, "{} {}: the last dim is not numKeyValueHeads({}) * D",
                  cache->label, text_of(cache->dims), a.kv_heads);
    }
  }
  call.tiling(a.key.dim(0) == a.value.dim(0), "key has {} blocks, value has {}", a.key.dim(0),
              a.value.dim(0));
  a.key_dim = a.heads_first ? a.key.dim(3) : a.key.dim(2) / a.kv_heads;
  a.value_dim = a.heads_first ? a.value.dim(3) : a.value.dim(2) / a.kv_heads;
  const int64_t longest = *std::max_element(a.kv_lengths.begin(), a.kv_lengths.end());
  call.tiling(table.dim(1) * a.block_size >= longest,
              "blockTable has {} columns of {} tokens, the longest "
              "sequence has {} keys",
              table.dim(1), a.block_size, longest);
}

void check_rows(const Call& call, FusedAttention& a) {
  for (const View* rows : {&a.key, &a.value}) {
    call.rank(*rows, 3, 3);
    call.tiling(rows->dim(1) == a.kv_heads, "{} {} has {} heads, numKeyValueHeads says {}", rows->label,
                text_of(rows->dims), rows->dim(1), a.kv_heads);
  }
  call.tiling(a.key.dim(0) == a.value.dim(0), "key has {} rows, value has {}", a.key.dim(0), a.value.dim(0));
  call.tiling(a.key.dim(0) <= kMostTokens, "key has {} tokens; {} at most", a.key.dim(0), kMostTokens);
  a.key_dim = a.key.dim(2);
  a.value_dim = a.value.dim(2);
  std::adjacent_difference(a.kv_lengths.begin(), a.kv_lengths.end(), a.kv_lengths.begin());
}

void check_mask(Call& call, FusedAttention& a, const aclTensor* mask, int64_t sparse_mode) {
  call.tiling(sparse_mode == 0 || sparse_mode == 3 || sparse_mode == 4, "sparseMode {}: TND takes 0, 3 and 4",
              sparse_mode);
  call.require(sparse_mode != 4, "sparseMode 4 (band) is not in the simulator");
  if (sparse_mode == 0) {
    call.tiling(mask == nullptr, "attenMask must be null in TND with sparseMode 0");
    return;
  }
  call.require(mask != nullptr, "sparseMode 3 needs the compressed attenMask of 2048 x 2048");
  View m = call.in("attenMask", mask, {ACL_BOOL, ACL_INT8, ACL_UINT8});
  const auto is = [&](std::vector<int64_t> dims) { return m.dims == dims; };
  call.tiling(is({kMaskSide, kMaskSide}) || is({1, kMaskSide, kMaskSide}) || is({1, 1, kMaskSide, kMaskSide}),
              "attenMask {} must be [2048, 2048], with leading ones at most", text_of(m.dims));
  call.contiguous(m);
  a.mask = m;
  for (size_t i = 0; i < a.query_ends.size(); ++i) {
    const int64_t q = a.query_ends[i] - (i ? a.query_ends[i - 1] : 0);
    call.tiling(q <= a.kv_lengths[i], "sparseMode 3: entry {} has {} query rows and {} keys", i, q,
                a.kv_lengths[i]);
  }
}

void check_outputs(Call& call, FusedAttention& a, const aclTensor* out, const aclTensor* lse,
                   bool wants_lse) {
  a.out = call.out("attentionOut", out, kHalves);
  call.same_dtype(a.query, a.out);
  call.dims(a.out, {a.query.dim(0), a.query.dim(1), a.value_dim});
  call.contiguous(a.out);
  if (!lse) {
    call.require(!wants_lse, "softmaxLse is null, softmaxLseFlag is true");
    return;
  }
  const View l = call.out("softmaxLse", lse, {ACL_FLOAT});
  if (!wants_lse) return call.dims(l, {0});
  call.dims(l, {a.query.dim(0), a.query.dim(1), 1});
  call.contiguous(l);
  a.lse = l;
}

void check_attention(Call& call, FusedAttention& a, int64_t heads, int64_t inner_precise) {
  call.rank(a.query, 3, 3);
  for (const View* view : {&a.query, &a.key, &a.value}) {
    call.contiguous(*view);
    call.same_dtype(a.query, *view);
  }
  call.tiling(a.query.dtype == ACL_BF16 || profile().tnd_fp16, "TND takes BF16 in CANN {}, query is {}",
              profile().version, name_of(a.query.dtype));
  call.tiling(a.query.dim(1) == heads, "query {} has {} heads, numHeads says {}", text_of(a.query.dims),
              a.query.dim(1), heads);
  call.tiling(heads <= 256, "numHeads {} is above 256", heads);
  call.tiling(a.kv_heads >= 1 && heads % a.kv_heads == 0 && heads / a.kv_heads <= 64,
              "numHeads {} must be a multiple of numKeyValueHeads {}, 64 times it at most", heads,
              a.kv_heads);
  call.tiling(a.query.dim(0) <= kMostTokens, "query has {} tokens; {} at most", a.query.dim(0), kMostTokens);
  call.tiling(inner_precise == 0, "innerPrecise {} must be 0 in TND", inner_precise);
}

// Keys that queries see, and their rows in the pages; the mask stays on the chip.
void count_work(Call& call, const FusedAttention& a) {
  double pairs = 0, keys = 0;
  for (size_t i = 0; i < a.query_ends.size(); ++i) {
    const auto q = static_cast<double>(a.query_ends[i] - (i ? a.query_ends[i - 1] : 0));
    const auto kv = static_cast<double>(a.kv_lengths[i]);
    pairs += q * kv - (a.mask ? q * (q - 1) / 2 : 0);
    keys += kv;
  }
  const auto dims = static_cast<double>(a.key_dim + a.value_dim);
  call.flops(2 * pairs * static_cast<double>(a.query.dim(1)) * dims);
  call.moves(static_cast<uint64_t>(a.query.bytes() + a.out.bytes()) +
             static_cast<uint64_t>(keys * static_cast<double>(a.kv_heads) * dims) *
                 static_cast<uint64_t>(size_of(a.key.dtype)));
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
    const aclTensor* keyRopeAntiquantScale, int64_t numHeads, double scaleValue, int64_t, int64_t,
    char* inputLayout, int64_t numKeyValueHeads, int64_t sparseMode, int64_t innerPrecise, int64_t blockSize,
    int64_t antiquantMode, bool softmaxLseFlag, int64_t keyAntiquantMode, int64_t valueAntiquantMode,
    const aclTensor* attentionOut, const aclTensor* softmaxLse, CANN_SIM_WS) {
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
    if (!inputLayout) fail(ACLNN_ERR_PARAM_NULLPTR, "aclnnFusedInferAttentionScoreV3: inputLayout is null");
    call.require(std::strcmp(inputLayout, "TND") == 0, "inputLayout '{}': the simulator knows TND only",
                 inputLayout);

    FusedAttention a;
    a.query = call.in("query", query, kHalves);
    a.key = call.in_single("key", key, kHalves);
    a.value = call.in_single("value", value, kHalves);
    a.kv_heads = numKeyValueHeads == 0 ? numHeads : numKeyValueHeads;
    a.block_size = blockSize;
    a.scale = static_cast<float>(scaleValue);
    check_attention(call, a, numHeads, innerPrecise);
    call.tiling(actualSeqLengths && actualSeqLengthsKv,
                "actualSeqLengths and actualSeqLengthsKv are mandatory in TND");
    a.query_ends = call.integers("actualSeqLengths", actualSeqLengths);
    a.kv_lengths = call.integers("actualSeqLengthsKv", actualSeqLengthsKv);
    check_lengths(call, a, a.kv_lengths, blockTable != nullptr);
    if (blockTable) {
      a.block_table = call.in("blockTable", blockTable, {ACL_INT32});
      check_pages(call, a);
    } else {
      check_rows(call, a);
    }
    call.tiling(a.query.dim(2) == a.key_dim, "queryD({}) and keyD({}) must be equal", a.query.dim(2),
                a.key_dim);
    check_head_dims(call, a.key_dim, a.value_dim, numHeads / a.kv_heads);
    check_mask(call, a, attenMask, sparseMode);
    check_outputs(call, a, attentionOut, softmaxLse, softmaxLseFlag);
    call.workspace(uint64_t{1} << 16);
    count_work(call, a);
    call.run([a] { attend(a); });
  });
}
CANN_SIM_LAUNCH(aclnnFusedInferAttentionScoreV3)

}  // extern "C"
