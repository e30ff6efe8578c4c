// Fused attention: sparse modes, masks.

#include <algorithm>

#include "ops/transformer/fused_attention_rules.h"

namespace cann_sim {
namespace {

constexpr DTypes kMasks = {ACL_BOOL, ACL_INT8, ACL_UINT8};

// preTokens may be as low as minus the query rows of each request, nextTokens as minus its keys.
Band band_of(const Call& call, const FusedAttention& a, const Sparsity& s) {
  for (size_t i = 0; i < a.query_lengths.size(); ++i) {
    call.tiling(s.before >= -a.query_lengths[i], "preTokens {} is below -{}, the query rows of entry {}",
                s.before, a.query_lengths[i], i);
    call.tiling(s.after >= -a.kv_lengths[i], "nextTokens {} is below -{}, the keys of entry {}", s.after,
                a.kv_lengths[i], i);
  }
  const Band band{.before = std::min(s.before, kNoLimit),
                  .after = std::min(s.after, kNoLimit),
                  .from_the_end = s.mode == 4};
  call.tiling(band.before + band.after >= 0, "preTokens {} and nextTokens {} leave nothing between them",
              s.before, s.after);
  return band;
}

// The mask that causal modes and bands are computed with, whatever the lengths.
View compressed(Call& call, const aclTensor* mask, int64_t mode) {
  call.require(mask != nullptr, "sparseMode {} needs the compressed attenMask of 2048 x 2048", mode);
  const View m = call.in("attenMask", mask, kMasks);
  const auto is = [&](std::vector<int64_t> dims) { return m.dims == dims; };
  call.tiling(is({kMaskSide, kMaskSide}) || is({1, kMaskSide, kMaskSide}) || is({1, 1, kMaskSide, kMaskSide}),
              "attenMask {} must be [2048, 2048], with leading ones at most", text_of(m.dims));
  call.contiguous(m);
  return m;
}

// A mask of every row and key, as [1 or B, S, KV_S].
View full(Call& call, const FusedAttention& a, const aclTensor* mask, int64_t mode) {
  call.require(mask != nullptr, "sparseMode {} needs an attenMask of every query row and key", mode);
  const View m = call.in("attenMask", mask, kMasks);
  call.contiguous(m);
  const int64_t batch = a.query.dim(0), rows = a.query.dim(1);
  const int64_t keys = a.block_table ? a.block_table->dim(1) * a.block_size : a.key.dim(1);
  const auto is = [&](std::vector<int64_t> dims) { return m.dims == dims; };
  if (single_row(a)) {
    call.tiling(
        is({batch, keys}) || is({batch, 1, keys}) || is({batch, 1, 1, keys}),
        "attenMask {} must be [B, KV_S] = [{}, {}] for one query row a request, with ones between them "
        "at most; the sparse mode is not heeded",
        text_of(m.dims), batch, keys);
    return m.reshaped({batch, 1, keys});
  }
  const bool shared = is({rows, keys}) || is({1, rows, keys}) || is({1, 1, rows, keys});
  call.tiling(shared || is({batch, rows, keys}) || is({batch, 1, rows, keys}),
              "attenMask {} must be [Q_S, KV_S] = [{}, {}], or one of them for each of {} requests",
              text_of(m.dims), rows, keys, batch);
  return m.reshaped({shared ? 1 : batch, rows, keys});
}

void take_tnd(Call& call, FusedAttention& a, const aclTensor* mask, const Sparsity& s) {
  call.tiling(s.mode == 0 || s.mode == 3 || s.mode == 4, "sparseMode {}: TND takes 0, 3 and 4", s.mode);
  if (s.mode == 0) {
    call.tiling(mask == nullptr, "attenMask must be null in TND with sparseMode 0");
    return;
  }
  a.compressed_mask = compressed(call, mask, s.mode);
  if (s.mode == 4) {
    call.tiling(a.value_dim == 64 || a.value_dim == 128, "sparseMode 4: valueD({}) must be 64 or 128 in TND",
                a.value_dim);
    a.band = band_of(call, a, s);
    return;
  }
  for (size_t i = 0; i < a.query_lengths.size(); ++i)
    call.tiling(a.query_lengths[i] <= a.kv_lengths[i], "sparseMode 3: entry {} has {} query rows and {} keys",
                i, a.query_lengths[i], a.kv_lengths[i]);
  a.band = {.after = 0, .from_the_end = true};
}

}  // namespace

void take_mask(Call& call, FusedAttention& a, const aclTensor* mask, const Sparsity& s) {
  if (!a.padded()) return take_tnd(call, a, mask, s);
  if (single_row(a)) {
    if (mask) a.full_mask = full(call, a, mask, 0);
    return;
  }
  call.tiling(s.mode >= 0 && s.mode <= 4, "sparseMode {} must be 0 to 4", s.mode);
  if (s.mode >= 2) a.compressed_mask = compressed(call, mask, s.mode);
  if (s.mode == 1 || (s.mode == 0 && mask)) a.full_mask = full(call, a, mask, s.mode);
  if (s.mode == 4 || (s.mode == 0 && mask)) a.band = band_of(call, a, s);
  if (s.mode == 2 || s.mode == 3) a.band = {.after = 0, .from_the_end = s.mode == 3};
}

}  // namespace cann_sim
