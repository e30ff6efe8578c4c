#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "sim/attention.h"
#include "support/named_values.h"

namespace cann_test {

using longspan::testing_support::fnv1a64;
using longspan::testing_support::splitmix64;
using nlohmann::json;

// The formula of make_attention_goldens.py.
inline std::vector<float> values(const std::string& name, double factor, int64_t count) {
  const uint64_t start = fnv1a64(name);
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i)
    result.push_back(static_cast<float>(
        (static_cast<double>(splitmix64(start + static_cast<uint64_t>(i)) >> 40) * 0x1p-23 - 1.0) * factor));
  return result;
}

enum class Keys { kPages, kPagesByHead, kRows };

/// A golden case with its keys and values in pages (handed out backwards) or in rows.
class Problem {
 public:
  Problem(Session& s, const std::string& name, const json& c, Keys how) {
    const int64_t heads = c["heads"], kv_heads = c["kv_heads"], dim = c["dim"], dim_v = c["dim_v"];
    const auto sequences = c["sequences"].get<std::vector<std::vector<int64_t>>>();
    std::vector<int64_t> ends, lengths;
    std::vector<std::vector<float>> k, v;
    for (size_t i = 0; i < sequences.size(); ++i) {
      rows += sequences[i][0];
      ends.push_back(rows);
      keys.push_back(sequences[i][1]);
      lengths.push_back(how == Keys::kRows && i > 0 ? lengths.back() + keys[i] : keys[i]);
      k.push_back(values(name + "/k" + std::to_string(i), 1, keys[i] * kv_heads * dim));
      v.push_back(values(name + "/v" + std::to_string(i), 1, keys[i] * kv_heads * dim_v));
    }
    if (how == Keys::kRows) {
      args.key = s.list(in_rows(s, k, kv_heads, dim));
      args.value = s.list(in_rows(s, v, kv_heads, dim_v));
    } else {
      number_pages();
      args.key = s.list(in_pages(s, k, kv_heads, dim, how == Keys::kPagesByHead));
      args.value = s.list(in_pages(s, v, kv_heads, dim_v, how == Keys::kPagesByHead));
      const auto columns = static_cast<int64_t>(table.size() / keys.size());
      args.block_table = s.tensor(s.upload(table), {static_cast<int64_t>(keys.size()), columns}, ACL_INT32);
    }
    args.query =
        s.tensor(s.upload_bf16(values(name + "/q", 3, rows * heads * dim)), {rows, heads, dim}, ACL_BF16);
    args.q_ends = s.integers(ends);
    args.kv_lengths = s.integers(lengths);
    out = s.allocate(static_cast<size_t>(rows * heads * dim_v) * 2);
    lse = s.allocate(static_cast<size_t>(rows * heads) * 4);
    args.out = s.tensor(out, {rows, heads, dim_v}, ACL_BF16);
    args.lse = s.tensor(lse, {rows, heads, 1}, ACL_FLOAT);
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.scale = 1 / std::sqrt(static_cast<double>(dim));
    args.wants_lse = true;
    if (c["causal"])
      args.mask = s.tensor(s.upload(causal_mask()), {kMaskSide, kMaskSide}, ACL_INT8);
    else
      args.sparse_mode = 0;
  }

  FusedAttentionArgs args;
  int64_t rows = 0;
  void *out = nullptr, *lse = nullptr;

 private:
  static constexpr int64_t kPage = 128;

  void number_pages() {
    int64_t columns = 0;
    for (const int64_t n : keys) {
      columns = std::max(columns, (n + kPage - 1) / kPage);
      pages += (n + kPage - 1) / kPage;
    }
    int64_t next = pages;
    for (const int64_t n : keys)
      for (int64_t b = 0; b < columns; ++b)
        table.push_back(b < (n + kPage - 1) / kPage ? static_cast<int32_t>(--next) : 0x7fffffff);
  }

  aclTensor* in_rows(Session& s, const std::vector<std::vector<float>>& parts, int64_t heads, int64_t dim) {
    std::vector<float> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    const auto total = static_cast<int64_t>(all.size()) / (heads * dim);
    return s.tensor(s.upload_bf16(all), {total, heads, dim}, ACL_BF16);
  }

  aclTensor* in_pages(Session& s, const std::vector<std::vector<float>>& parts, int64_t heads, int64_t dim,
                      bool by_head) {
    std::vector<float> cache(static_cast<size_t>(pages * kPage * heads * dim), NAN);  // unused slots
    const size_t columns = table.size() / keys.size();
    for (size_t i = 0; i < keys.size(); ++i) {
      for (int64_t t = 0; t < keys[i]; ++t) {
        const int64_t page = table[i * columns + static_cast<size_t>(t / kPage)], in_page = t % kPage;
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t row =
              by_head ? (page * heads + h) * kPage + in_page : (page * kPage + in_page) * heads + h;
          for (int64_t d = 0; d < dim; ++d) cache[row * dim + d] = parts[i][(t * heads + h) * dim + d];
        }
      }
    }
    const std::vector<int64_t> dims = by_head ? std::vector<int64_t>{pages, heads, kPage, dim}
                                              : std::vector<int64_t>{pages, kPage, heads * dim};
    return s.tensor(s.upload_bf16(cache), dims, ACL_BF16);
  }

  std::vector<int64_t> keys;
  std::vector<int32_t> table;
  int64_t pages = 0;
};

inline const json& goldens() {
  static const json all = json::parse(std::ifstream(LONGSPAN_SOURCE_DIR "/tests/golden/attention.json"));
  return all;
}

}  // namespace cann_test
