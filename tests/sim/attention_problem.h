#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

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

/// A golden case with its keys and values in pages (handed out backwards) or in rows. In layouts that pad,
/// what is behind a request's length is NaN, in results kUnwritten.
class Problem {
 public:
  static constexpr float kUnwritten = -7;

  Problem(Session& s, const std::string& name, const json& c, Keys how, const std::string& layout = "TND")
      : heads(c["heads"]), dim_v(c["dim_v"]), layout_(layout) {
    const int64_t kv_heads = c["kv_heads"], dim = c["dim"];
    std::vector<int64_t> ends, lengths;
    std::vector<std::vector<float>> k, v;
    for (const auto& [q_rows, n] : c["sequences"].get<std::vector<std::pair<int64_t, int64_t>>>()) {
      const std::string i = std::to_string(keys.size());
      row_counts.push_back(q_rows);
      keys.push_back(n);
      ends.push_back(rows());
      lengths.push_back(!padded() && how == Keys::kRows && !lengths.empty() ? lengths.back() + n : n);
      k.push_back(values(name + "/k" + i, 1, n * kv_heads * dim));
      v.push_back(values(name + "/v" + i, 1, n * kv_heads * dim_v));
    }
    if (how == Keys::kRows) {
      args.key = s.list(laid_out(s, k, kv_heads, dim, longest(keys)));
      args.value = s.list(laid_out(s, v, kv_heads, dim_v, longest(keys)));
    } else {
      number_pages();
      args.key = s.list(in_pages(s, k, kv_heads, dim, how == Keys::kPagesByHead));
      args.value = s.list(in_pages(s, v, kv_heads, dim_v, how == Keys::kPagesByHead));
      args.block_table = s.tensor(s.upload(table), {requests(), columns()}, ACL_INT32);
    }
    args.query = laid_out(s, by_request(values(name + "/q", 3, rows() * heads * dim), heads * dim), heads,
                          dim, longest(row_counts));
    args.q_ends = s.integers(padded() ? row_counts : ends);
    args.kv_lengths = s.integers(lengths);
    make_results(s);
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.scale = 1 / std::sqrt(static_cast<double>(dim));
    args.layout = layout;
    args.wants_lse = true;
    choose_keys(s, name, c, how == Keys::kRows ? longest(keys) : columns() * kPage);
  }

  /// Results as [tokens, heads, dim], as the goldens have them; what is behind a request's length must have
  /// stayed as it was.
  std::vector<float> outputs(Session& s) const {
    return in_token_order(s.download_bf16(out, static_cast<size_t>(slots() * heads * dim_v)), dim_v,
                          layout_ == "BNSD");
  }
  std::vector<float> sums(Session& s) const {
    return in_token_order(s.download<float>(lse, static_cast<size_t>(slots() * heads)), 1, padded());
  }

  bool padded() const { return layout_ != "TND"; }
  int64_t rows() const { return std::accumulate(row_counts.begin(), row_counts.end(), int64_t{0}); }

  FusedAttentionArgs args;
  int64_t heads, dim_v;
  std::vector<int64_t> row_counts, keys;  // of each request
  void *out = nullptr, *lse = nullptr;

 private:
  static constexpr int64_t kPage = 128;

  static int64_t longest(const std::vector<int64_t>& lengths) {
    return *std::max_element(lengths.begin(), lengths.end());
  }
  int64_t requests() const { return static_cast<int64_t>(keys.size()); }
  int64_t columns() const { return static_cast<int64_t>(table.size()) / requests(); }
  int64_t slots() const { return padded() ? requests() * longest(row_counts) : rows(); }

  // Of element 0 of a head of a token: request b, row i of `length`.
  static int64_t at(int64_t b, int64_t i, int64_t h, int64_t length, int64_t heads, int64_t dim,
                    bool heads_first) {
    return (heads_first ? (b * heads + h) * length + i : (b * length + i) * heads + h) * dim;
  }

  std::vector<std::vector<float>> by_request(const std::vector<float>& all, int64_t width) const {
    std::vector<std::vector<float>> parts;
    auto from = all.begin();
    for (const int64_t count : row_counts) {
      parts.emplace_back(from, from + count * width);
      from += count * width;
    }
    return parts;
  }

  std::vector<float> in_token_order(const std::vector<float>& all, int64_t dim, bool heads_first) const {
    if (!padded()) return all;
    std::vector<float> result;
    const int64_t length = longest(row_counts);
    for (int64_t b = 0; b < requests(); ++b) {
      for (int64_t i = 0; i < length; ++i) {
        for (int64_t h = 0; h < heads; ++h) {
          const auto first = all.begin() + at(b, i, h, length, heads, dim, heads_first);
          if (i < row_counts[b])
            result.insert(result.end(), first, first + dim);
          else
            EXPECT_EQ(std::count(first, first + dim, kUnwritten), dim) << "request " << b << " row " << i;
        }
      }
    }
    return result;
  }

  std::vector<int64_t> dims_of(int64_t tokens, int64_t length, int64_t n, int64_t dim) const {
    if (layout_ == "TND") return {tokens, n, dim};
    if (layout_ == "BSH") return {requests(), length, n * dim};
    if (layout_ == "BSND") return {requests(), length, n, dim};
    return {requests(), n, length, dim};
  }

  aclTensor* laid_out(Session& s, const std::vector<std::vector<float>>& parts, int64_t n, int64_t dim,
                      int64_t length) const {
    std::vector<float> all;
    if (padded()) {
      all.assign(static_cast<size_t>(requests() * length * n * dim), NAN);
      for (size_t b = 0; b < parts.size(); ++b)
        for (size_t j = 0; j < parts[b].size(); ++j) {
          const auto element = static_cast<int64_t>(j), head = element / dim;
          all[at(static_cast<int64_t>(b), head / n, head % n, length, n, dim, layout_ == "BNSD") +
              element % dim] = parts[b][j];
        }
    } else {
      for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    }
    const auto tokens = static_cast<int64_t>(all.size()) / (n * dim);
    return s.tensor(s.upload_bf16(all), dims_of(tokens, length, n, dim), ACL_BF16);
  }

  void make_results(Session& s) {
    const int64_t length = longest(row_counts);
    out = s.upload_bf16(std::vector<float>(static_cast<size_t>(slots() * heads * dim_v), kUnwritten));
    lse = s.upload(std::vector<float>(static_cast<size_t>(slots() * heads), kUnwritten));
    args.out = s.tensor(out, dims_of(rows(), length, heads, dim_v), ACL_BF16);
    args.lse = s.tensor(lse,
                        padded() ? std::vector<int64_t>{requests(), heads, length, 1}
                                 : std::vector<int64_t>{rows(), heads, 1},
                        ACL_FLOAT);
  }

  // Sparse mode, mask and band of the case. Where every request has one row, padded layouts take no mode.
  void choose_keys(Session& s, const std::string& name, const json& c, int64_t mask_width) {
    const json sparse = c.value("sparse", json::object());
    const bool single_rows = padded() && longest(row_counts) == 1;
    args.before = sparse.value("before", FusedAttentionArgs::kNoLimit);
    args.after = sparse.value("after", FusedAttentionArgs::kNoLimit);
    if (sparse.contains("mask")) {
      args.sparse_mode = sparse.contains("before") ? 0 : 1;
      args.mask = full_mask(s, name, mask_width);
      return;
    }
    if (c["causal"])
      args.sparse_mode = 3;
    else if (sparse.contains("from_the_end"))
      args.sparse_mode = 4;
    else
      args.sparse_mode = sparse.contains("after") ? 2 : 0;
    if (args.sparse_mode != 0 && !single_rows)
      args.mask = s.tensor(s.upload(causal_mask()), {kMaskSide, kMaskSide}, ACL_INT8);
  }

  aclTensor* full_mask(Session& s, const std::string& name, int64_t width) const {
    const int64_t length = longest(row_counts);
    std::vector<int8_t> mask(static_cast<size_t>(requests() * length * width), 1);
    for (int64_t b = 0; b < requests(); ++b) {
      const uint64_t start = fnv1a64(name + "/mask" + std::to_string(b));
      for (int64_t i = 0; i < row_counts[b]; ++i)
        for (int64_t j = 0; j < keys[b]; ++j)
          mask[(b * length + i) * width + j] =
              i != j && splitmix64(start + static_cast<uint64_t>(i * keys[b] + j)) % 2;
    }
    const std::vector<int64_t> dims = length == 1 ? std::vector<int64_t>{requests(), width}
                                                  : std::vector<int64_t>{requests(), 1, length, width};
    return s.tensor(s.upload(mask), dims, ACL_INT8);
  }

  void number_pages() {
    const int64_t most = (longest(keys) + kPage - 1) / kPage;
    for (const int64_t n : keys) pages += (n + kPage - 1) / kPage;
    int64_t next = pages;
    for (const int64_t n : keys)
      for (int64_t b = 0; b < most; ++b)
        table.push_back(b < (n + kPage - 1) / kPage ? static_cast<int32_t>(--next) : 0x7fffffff);
  }

  aclTensor* in_pages(Session& s, const std::vector<std::vector<float>>& parts, int64_t n, int64_t dim,
                      bool by_head) const {
    std::vector<float> cache(static_cast<size_t>(pages * kPage * n * dim), NAN);  // unused slots
    for (int64_t b = 0; b < requests(); ++b) {
      for (int64_t t = 0; t < keys[b]; ++t) {
        const int64_t page = table[b * columns() + t / kPage];
        for (int64_t h = 0; h < n; ++h)
          std::copy_n(parts[b].begin() + (t * n + h) * dim, dim,
                      cache.begin() + at(page, t % kPage, h, kPage, n, dim, by_head));
      }
    }
    const std::vector<int64_t> dims =
        by_head ? std::vector<int64_t>{pages, n, kPage, dim} : std::vector<int64_t>{pages, kPage, n * dim};
    return s.tensor(s.upload_bf16(cache), dims, ACL_BF16);
  }

  std::string layout_;
  std::vector<int32_t> table;
  int64_t pages = 0;
};

/// A call that is right but for one thing.
struct Broken {
  const char* name;
  std::function<void(Session&, FusedAttentionArgs&)> change;
  int code;
  const char* says;
  Keys keys = Keys::kPages;
  const char* layout = "TND";
  const char* problem = "segments";
};

/// Never written: for calls that phase 1 refuses.
inline aclTensor* half(Session& s, const std::vector<int64_t>& dims) {
  size_t bytes = 2;
  for (const int64_t d : dims) bytes *= static_cast<size_t>(d);
  return s.tensor(s.allocate(bytes), dims, ACL_BF16);
}

constexpr int kTiling = ACLNN_ERR_INNER_TILING_ERROR;

inline const json& goldens() {
  static const json all = json::parse(std::ifstream(LONGSPAN_SOURCE_DIR "/tests/golden/attention.json"));
  return all;
}

inline void expect_refused(const Broken& b) {
  Session s("8.5");
  Problem p(s, b.problem, goldens()["cases"][b.problem], b.keys, b.layout);
  b.change(s, p.args);
  EXPECT_EQ(run_attention(s, p.args), b.code);
  EXPECT_THAT(s.error(), testing::HasSubstr(b.says));
}

}  // namespace cann_test
