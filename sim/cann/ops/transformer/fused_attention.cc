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

// `count` rows of request s, the first of them `begin` rows behind the first request's where they are not
// padded.
View rows_of(const View& all, size_t s, int64_t begin, int64_t count) {
  View part = all.rank() == 4 ? all.row(static_cast<int64_t>(s)) : all;
  if (all.rank() == 3) part.data += begin * part.strides[0] * size_of(part.dtype);
  part.dims[0] = count;
  return part;
}

// `keys` rows of one kv head of request s, as [keys, dim].
std::vector<float> gather(const FusedAttention& a, const View& from, int64_t dim, size_t s, int64_t first_row,
                          int64_t keys, int64_t head) {
  const int64_t size = size_of(from.dtype), width = a.kv_heads * dim;
  if (!a.block_table) {
    View slice = rows_of(from, s, first_row, keys);
    slice.data += head * slice.strides[1] * size;
    slice.dims = {keys, dim};
    slice.strides = {slice.strides[0], slice.strides[2]};
    return load(slice);
  }
  std::vector<float> rows;
  rows.reserve(static_cast<size_t>(keys * dim));
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
    slice.dims = {std::min(a.block_size, keys - b * a.block_size), dim};
    const std::vector<float> values = load(slice);
    rows.insert(rows.end(), values.begin(), values.end());
  }
  return rows;
}

std::vector<float> transposed(const std::vector<float>& rows, int64_t count, int64_t dim) {
  std::vector<float> result(rows.size());
  for (int64_t r = 0; r < count; ++r)
    for (int64_t d = 0; d < dim; ++d) result[d * count + r] = rows[r * dim + d];
  return result;
}

// 1 where a key is hidden from a row, [rows, keys]; empty without a mask.
std::vector<char> hidden_keys(const FusedAttention& a, size_t s, int64_t rows, int64_t keys) {
  if (!a.full_mask) return {};
  View part = a.full_mask->row(a.full_mask->dim(0) == 1 ? 0 : static_cast<int64_t>(s));
  part.dims = {rows, keys};
  std::vector<char> hidden = load_bytes(part);
  for (size_t i = 0; i < hidden.size(); ++i)
    if (hidden[i] != 0 && hidden[i] != 1)
      fail(ACL_ERROR_RT_AICORE_EXCEPTION, "{}: element ({}, {}) of request {} is {}; a mask has 0 and 1 only",
           part.label, static_cast<int64_t>(i) / keys, static_cast<int64_t>(i) % keys, s,
           static_cast<int>(hidden[i]));
  return hidden;
}

struct Row {
  std::vector<float> out;
  float lse;
};

// One query against keys [first, last) of `keys`, but for hidden ones (null: none are); k is [dim, keys], v
// is [keys, value dim].
Row attend_row(const FusedAttention& a, const float* q, const std::vector<float>& k,
               const std::vector<float>& v, int64_t keys, std::pair<int64_t, int64_t> range,
               const char* hidden) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Row row{std::vector<float>(static_cast<size_t>(a.value_dim)), kInfinity};
  const auto [first, last] = range;
  if (first >= last) return row;
  const int64_t count = last - first;
  std::vector<float> p(static_cast<size_t>(count));
  for (int64_t d = 0; d < a.key_dim; ++d) {
    const float factor = q[d];
    const float* column = k.data() + d * keys + first;
    for (int64_t n = 0; n < count; ++n) p[n] += factor * column[n];
  }
  for (float& score : p) score *= a.scale;
  for (int64_t n = 0; hidden && n < count; ++n)
    if (hidden[first + n]) p[n] = -kInfinity;
  const float max = *std::max_element(p.begin(), p.end());
  if (max == -kInfinity) return row;
  float sum = 0;
  for (float& score : p) sum += score = std::exp(score - max);
  for (int64_t n = 0; n < count; ++n) {
    const float weight = p[n] / sum;
    const float* values = v.data() + (first + n) * a.value_dim;
    for (int64_t d = 0; d < a.value_dim; ++d) row.out[d] += weight * values[d];
  }
  row.lse = max + std::log(sum);
  return row;
}

}  // namespace

void attend(const FusedAttention& a) {
  if (a.compressed_mask) check_mask(*a.compressed_mask);
  const int64_t group = a.query.dim(-2) / a.kv_heads;
  int64_t q_begin = 0, kv_begin = 0;
  for (size_t s = 0; s < a.query_lengths.size(); ++s) {
    const int64_t rows = a.query_lengths[s], keys = a.kv_lengths[s];
    const View query = rows_of(a.query, s, q_begin, rows), out = rows_of(a.out, s, q_begin, rows);
    const std::vector<char> hidden = hidden_keys(a, s, rows, keys);
    for (int64_t kv_head = 0; rows > 0 && kv_head < a.kv_heads; ++kv_head) {
      const std::vector<float> k =
          transposed(gather(a, a.key, a.key_dim, s, kv_begin, keys, kv_head), keys, a.key_dim);
      const std::vector<float> v = gather(a, a.value, a.value_dim, s, kv_begin, keys, kv_head);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
          const std::vector<float> q = load(query.row(i).row(h));
          const Row row = attend_row(a, q.data(), k, v, keys, a.band.keys_of(i, rows, keys),
                                     hidden.empty() ? nullptr : hidden.data() + i * keys);
          store(out.row(i).row(h), row.out);
          if (a.lse) store(rows_of(*a.lse, s, q_begin, rows).row(i).row(h), {row.lse});
        }
      }
    }
    q_begin += rows;
    kv_begin += keys;
  }
}

}  // namespace cann_sim
