#include "ops/transformer/fused_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "abi/acl.h"
#include "core/fault.h"
#include "core/runtime.h"

namespace cann_sim {
namespace {

// 1 strictly above the diagonal, 0 elsewhere. A mask that has not been written since it was seen is trusted.
void check_mask(const View& mask) {
  static std::mutex mutex;
  static std::set<std::pair<const char*, uint64_t>> seen;
  const std::pair<const char*, uint64_t> key{mask.data, Runtime::get().memory().version(mask.data)};
  const std::lock_guard lock(mutex);
  if (seen.contains(key)) return;
  const std::vector<char> bytes = load_bytes(mask);
  for (int64_t row = 0; row < kMaskSide; ++row)
    for (int64_t col = 0; col < kMaskSide; ++col)
      if (bytes[row * kMaskSide + col] != (col > row ? 1 : 0))
        fail(ACL_ERROR_RT_AICORE_EXCEPTION,
             "{}: element ({}, {}) is {}; the compressed mask has 1 strictly above the diagonal, else 0",
             mask.label, row, col, static_cast<int>(bytes[row * kMaskSide + col]));
  seen.insert(key);
}

// `keys` rows of one kv head of sequence s, as [keys, dim].
std::vector<float> gather(const FusedAttention& a, const View& from, int64_t dim, size_t s, int64_t first_row,
                          int64_t keys, int64_t head) {
  std::vector<float> rows;
  rows.reserve(static_cast<size_t>(keys * dim));
  const auto append = [&](View slice, int64_t count) {
    slice.dims = {count, dim};
    const std::vector<float> values = load(slice);
    rows.insert(rows.end(), values.begin(), values.end());
  };
  const int64_t size = size_of(from.dtype), width = a.kv_heads * dim;
  if (!a.block_table) {
    View slice = from;
    slice.data += (first_row * width + head * dim) * size;
    slice.strides = {width, 1};
    append(slice, keys);
    return rows;
  }
  const int64_t blocks = (keys + a.block_size - 1) / a.block_size;
  View table = a.block_table->row(static_cast<int64_t>(s));
  table.dims = {blocks};  // entries past the last page are never read
  const std::vector<int64_t> ids = load_integers(table);
  for (int64_t b = 0; b < blocks; ++b) {
    if (ids[b] < 0 || ids[b] >= from.dim(0))
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}[{}, {}] = {} is outside the {} blocks of the cache",
           table.label, s, b, ids[b], from.dim(0));
    View slice = from;
    slice.data += ids[b] * a.block_size * width * size;
    if (a.heads_first) {
      slice.data += head * a.block_size * dim * size;
      slice.strides = {dim, 1};
    } else {
      slice.data += head * dim * size;
      slice.strides = {width, 1};
    }
    append(slice, std::min(a.block_size, keys - b * a.block_size));
  }
  return rows;
}

std::vector<float> transposed(const std::vector<float>& rows, int64_t count, int64_t dim) {
  std::vector<float> result(rows.size());
  for (int64_t r = 0; r < count; ++r)
    for (int64_t d = 0; d < dim; ++d) result[d * count + r] = rows[r * dim + d];
  return result;
}

struct Row {
  std::vector<float> out;
  float lse;
};

// One query against the first `visible` of `keys` keys; k is [dim, keys], v is [keys, value dim].
Row attend_row(const FusedAttention& a, const float* q, const std::vector<float>& k,
               const std::vector<float>& v, int64_t keys, int64_t visible) {
  Row row{std::vector<float>(static_cast<size_t>(a.value_dim)), std::numeric_limits<float>::infinity()};
  if (visible <= 0) return row;
  std::vector<float> p(static_cast<size_t>(visible));
  for (int64_t d = 0; d < a.key_dim; ++d) {
    const float factor = q[d];
    const float* column = k.data() + d * keys;
    for (int64_t n = 0; n < visible; ++n) p[n] += factor * column[n];
  }
  for (float& score : p) score *= a.scale;
  const float max = *std::max_element(p.begin(), p.end());
  float sum = 0;
  for (float& score : p) sum += score = std::exp(score - max);
  for (int64_t n = 0; n < visible; ++n) {
    const float weight = p[n] / sum;
    const float* values = v.data() + n * a.value_dim;
    for (int64_t d = 0; d < a.value_dim; ++d) row.out[d] += weight * values[d];
  }
  row.lse = max + std::log(sum);
  return row;
}

}  // namespace

void attend(const FusedAttention& a) {
  if (a.mask) check_mask(*a.mask);
  const int64_t heads = a.query.dim(1), group = heads / a.kv_heads;
  int64_t q_begin = 0, kv_begin = 0;
  for (size_t s = 0; s < a.query_ends.size(); ++s) {
    const int64_t q_len = a.query_ends[s] - q_begin, keys = a.kv_lengths[s];
    for (int64_t kv_head = 0; kv_head < a.kv_heads; ++kv_head) {
      const std::vector<float> k =
          transposed(gather(a, a.key, a.key_dim, s, kv_begin, keys, kv_head), keys, a.key_dim);
      const std::vector<float> v = gather(a, a.value, a.value_dim, s, kv_begin, keys, kv_head);
      for (int64_t i = 0; i < q_len; ++i) {
        const int64_t visible = a.mask ? keys - q_len + i + 1 : keys;
        for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
          const std::vector<float> q = load(a.query.row(q_begin + i).row(h));
          const Row row = attend_row(a, q.data(), k, v, keys, visible);
          store(a.out.row(q_begin + i).row(h), row.out);
          if (a.lse) store(a.lse->row(q_begin + i).row(h), {row.lse});
        }
      }
    }
    q_begin = a.query_ends[s];
    kv_begin += keys;
  }
}

}  // namespace cann_sim
