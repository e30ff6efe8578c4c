// Fused attention: layouts, lengths, pages.

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/profile.h"
#include "ops/transformer/fused_attention_rules.h"

namespace cann_sim {
namespace {

constexpr int64_t kMostEntries = 4096, kMostTokens = 1 << 20, kMostRequests = 65536;

// Which dims of q, k and v fit together in TND, by release.
void check_tnd_dims(const Call& call, int64_t key_dim, int64_t value_dim, int64_t group) {
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

// Lengths in TND: as many of queries as of keys, running sums for queries, and for keys that are not in
// pages.
void take_lengths(const Call& call, FusedAttention& a, const std::vector<int64_t>& q,
                  const std::vector<int64_t>& kv) {
  const bool paged = a.block_table.has_value();
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
  a.query_lengths = q;
  a.kv_lengths = kv;
  for (auto* sums : {&a.query_lengths, paged ? nullptr : &a.kv_lengths})
    if (sums) std::adjacent_difference(sums->begin(), sums->end(), sums->begin());
}

// Lengths in padded layouts: one for all requests or one for each; entries behind the last request's are not
// read. Without any, requests are as long as their dim.
std::vector<int64_t> padded_lengths(Call& call, const char* name, const aclIntArray* array, int64_t requests,
                                    int64_t most) {
  const auto count = static_cast<size_t>(requests);
  if (!array) return std::vector<int64_t>(count, most);
  std::vector<int64_t> lengths = call.integers(name, array);
  call.tiling(lengths.size() == 1 || (!lengths.empty() && lengths.size() >= count),
              "{} has {} entries for {} requests: there must be one for all or one for each", name,
              lengths.size(), requests);
  lengths.resize(count, lengths[0]);
  for (size_t i = 0; i < count; ++i)
    call.tiling(lengths[i] >= 0 && lengths[i] <= most, "{}[{}] = {} is outside 0..{}", name, i, lengths[i],
                most);
  return lengths;
}

void check_block_size(const Call& call, const FusedAttention& a) {
  if (!single_row(a)) {
    call.tiling(a.block_size % 128 == 0 && a.block_size >= 128 && a.block_size <= 512,
                "blockSize {} must be a multiple of 128 up to 512", a.block_size);
    return;
  }
  call.tiling(a.block_size % 16 == 0 && a.block_size >= 16 && a.block_size <= 512,
              "blockSize {} must be a multiple of 16 up to 512 for one query row a request", a.block_size);
  const int64_t dim = a.query.dim(-1);
  call.tiling(dim * a.block_size <= 128 * 128,
              "blockSize {} times D = {} must be at most 16384 for one query row a request", a.block_size,
              dim);
}

void take_pages(const Call& call, FusedAttention& a, AttentionLayout layout) {
  call.rank(a.key, 3, 4);
  a.heads_first = a.key.rank() == 4;
  call.tiling(!a.heads_first || layout == AttentionLayout::kBnsd || layout == AttentionLayout::kTnd,
              "key {}: with queries in BSH or BSND pages must be [blocks, block size, Nkv * D]",
              text_of(a.key.dims));
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
}

void check_table(const Call& call, const FusedAttention& a) {
  const View& table = *a.block_table;
  call.rank(table, 2, 2);
  call.contiguous(table);
  call.tiling(table.dim(0) == static_cast<int64_t>(a.query_lengths.size()),
              "blockTable has {} rows, there are {} sequences", table.dim(0), a.query_lengths.size());
  const int64_t longest = *std::max_element(a.kv_lengths.begin(), a.kv_lengths.end());
  call.tiling(table.dim(1) * a.block_size >= longest,
              "blockTable has {} columns of {} tokens, the longest "
              "sequence has {} keys",
              table.dim(1), a.block_size, longest);
}

void take_rows(const Call& call, FusedAttention& a, AttentionLayout layout) {
  for (View* rows : {&a.key, &a.value})
    *rows = with_heads(call, *rows, layout, a.kv_heads, "numKeyValueHeads");
  call.tiling(a.key.dim(0) == a.value.dim(0), "key has {} rows, value has {}", a.key.dim(0), a.value.dim(0));
  if (a.padded())
    call.tiling(a.key.dim(0) == a.query.dim(0), "key {} and query {} must have as many requests",
                text_of(a.key.dims), text_of(a.query.dims));
  else
    call.tiling(a.key.dim(0) <= kMostTokens, "key has {} tokens; {} at most", a.key.dim(0), kMostTokens);
  a.key_dim = a.key.dim(-1);
  a.value_dim = a.value.dim(-1);
}

void check_padded(const Call& call, const FusedAttention& a) {
  call.tiling(a.key.dims == a.value.dims, "key {} and value {} must have the same dims", text_of(a.key.dims),
              text_of(a.value.dims));
  call.tiling(a.key_dim % 16 == 0 && a.key_dim <= 512, "head dim {} must be a multiple of 16 up to 512",
              a.key_dim);
  call.tiling(a.query.dim(0) >= 1 && a.query.dim(0) <= kMostRequests, "query has {} requests; 1 to {}",
              a.query.dim(0), kMostRequests);
}

void check_query(const Call& call, FusedAttention& a, const AttentionOperands& o) {
  const bool tnd = o.layout == AttentionLayout::kTnd;
  for (const View* view : {&a.query, &a.key, &a.value}) {
    call.contiguous(*view);
    call.same_dtype(a.query, *view);
  }
  call.tiling(!tnd || a.query.dtype == ACL_BF16 || profile().tnd_fp16,
              "TND takes BF16 in CANN {}, query is {}", profile().version, name_of(a.query.dtype));
  call.tiling(o.heads >= 1 && o.heads <= 256, "numHeads {} is outside 1..256", o.heads);
  call.tiling(a.kv_heads >= 1 && o.heads % a.kv_heads == 0 && o.heads / a.kv_heads <= 64,
              "numHeads {} must be a multiple of numKeyValueHeads {}, 64 times it at most", o.heads,
              a.kv_heads);
  a.query = with_heads(call, a.query, o.layout, o.heads, "numHeads");
  call.tiling(!tnd || a.query.dim(0) <= kMostTokens, "query has {} tokens; {} at most", a.query.dim(0),
              kMostTokens);
}

}  // namespace

View with_heads(const Call& call, const View& view, AttentionLayout layout, int64_t heads, const char* says) {
  View result = view;
  if (layout == AttentionLayout::kBsh) {
    call.rank(view, 3, 3);
    call.tiling(view.dim(2) % heads == 0, "{} {}: the last dim is not {}({}) * D", view.label,
                text_of(view.dims), says, heads);
    return view.reshaped({view.dim(0), view.dim(1), heads, view.dim(2) / heads});
  }
  const int64_t rank = layout == AttentionLayout::kTnd ? 3 : 4;
  call.rank(view, rank, rank);
  if (layout == AttentionLayout::kBnsd) {
    std::swap(result.dims[1], result.dims[2]);
    std::swap(result.strides[1], result.strides[2]);
  }
  call.tiling(result.dim(-2) == heads, "{} {} has {} heads, {} says {}", view.label, text_of(view.dims),
              result.dim(-2), says, heads);
  return result;
}

void take_operands(Call& call, FusedAttention& a, const AttentionOperands& o) {
  a.query = call.in("query", o.query, kHalves);
  a.key = call.in_single("key", o.key, kHalves);
  a.value = call.in_single("value", o.value, kHalves);
  check_query(call, a, o);
  if (o.block_table) a.block_table = call.in("blockTable", o.block_table, {ACL_INT32});
  if (o.block_table) check_block_size(call, a);
  if (o.block_table)
    take_pages(call, a, o.layout);
  else
    take_rows(call, a, o.layout);
  if (a.padded()) {
    check_padded(call, a);
    call.tiling(!o.block_table || o.kv_lengths, "actualSeqLengthsKv is mandatory with blockTable");
    const int64_t requests = a.query.dim(0), rows = a.query.dim(1);
    a.query_lengths =
        padded_lengths(call, "actualSeqLengths", single_row(a) ? nullptr : o.query_lengths, requests, rows);
    a.kv_lengths = padded_lengths(call, "actualSeqLengthsKv", o.kv_lengths, requests,
                                  o.block_table ? std::numeric_limits<int64_t>::max() : a.key.dim(1));
  } else {
    call.tiling(o.query_lengths && o.kv_lengths,
                "actualSeqLengths and actualSeqLengthsKv are mandatory in TND");
    take_lengths(call, a, call.integers("actualSeqLengths", o.query_lengths),
                 call.integers("actualSeqLengthsKv", o.kv_lengths));
  }
  if (o.block_table) check_table(call, a);
  call.tiling(a.query.dim(-1) == a.key_dim, "queryD({}) and keyD({}) must be equal", a.query.dim(-1),
              a.key_dim);
  if (!a.padded()) check_tnd_dims(call, a.key_dim, a.value_dim, o.heads / a.kv_heads);
}

}  // namespace cann_sim
