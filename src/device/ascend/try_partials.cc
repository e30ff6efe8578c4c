#include <fmt/format.h>
#include <longspan/error.h>

#include <array>
#include <cmath>
#include <limits>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

// Key j scores j * a step, its value is j + 1 throughout: weights that differ, so that a mean without weights
// is seen. Steps that bf16 holds.
constexpr int64_t kKeys = 5, kFirstPart = 3, kBehindPage = 2;
constexpr float kStep = 1.0f, kSmallStep = 1.0f / 64;
constexpr double kRelative = 4 * 0x1p-8;  // weights and results rounded to bf16, twice
constexpr double kLseBound = 0.02;

struct Expected {
  double out = 0, lse_ln = 0;
};

Expected attention_to(int64_t begin, int64_t end, double step) {
  double sum = 0, weighted = 0;
  for (int64_t key = begin; key < end; ++key) {
    const double weight = std::exp(step * static_cast<double>(key));
    sum += weight;
    weighted += weight * static_cast<double>(key + 1);
  }
  return {weighted / sum, std::log(sum)};
}

/// Page 1 and the start of page 2 hold keys 0, 1, ..; page 3 those from kFirstPart to kKeys. The queries of
/// rows 0 and 1 score with kStep, those behind with kSmallStep.
class Trial {
 public:
  Trial(Ops& ops, Card& card, KvShape shape)
      : ops_(ops), card_(card), arena_(card), stream_(card), page_size_(shape.page_size) {
    shape.layers = 1;
    shape.pages = 4;
    heads_ = shape.heads_q ? shape.heads_q : shape.heads_k;
    pool_ = ops.make_kv_pool(shape);
    const int64_t long_keys = page_size_ + kBehindPage, k_cols = shape.heads_k * shape.dim_k;
    const auto key_of = [&](int64_t row) { return row < long_keys ? row : kFirstPart + row - long_keys; };
    const Matrix rows = put(
        long_keys + kKeys - kFirstPart, k_cols + shape.heads_v * shape.dim_v, [&](int64_t row, int64_t col) {
          if (col >= k_cols) return static_cast<float>(key_of(row) + 1);
          return col % shape.dim_k == 0 ? kSmallStep * static_cast<float>(key_of(row)) : 0.0f;
        });
    std::vector<int32_t> slots;
    for (int64_t row = 0; row < rows.rows; ++row)
      slots.push_back(
          static_cast<int32_t>(page_size_ + row + (row < long_keys ? 0 : page_size_ - kBehindPage)));
    ops.kv_write(ctx_, *pool_, 0, rows.slice_cols(0, k_cols), rows.slice_cols(k_cols, rows.cols - k_cols),
                 ops.upload(ctx_, slots));
    queries_ = put(kRows, heads_ * shape.dim_k, [&](int64_t row, int64_t col) {
      return col % shape.dim_k != 0 ? 0.0f : row < 2 ? kStep / kSmallStep : 1.0f;
    });
    partials_ = arena_.matrix(kRows, heads_ * (shape.dim_v + 1));
  }

  /// One row and some keys of a page, as where a sequence decodes: rows 0 and 1, of a part each.
  void attend_to_parts() {
    for (const auto& [row, page, begin, end] :
         {std::array<int64_t, 4>{0, 1, 0, kFirstPart}, {1, 3, kFirstPart, kKeys}}) {
      attend(row, 1, {{0, 1, 0, static_cast<int32_t>(end - begin), /*causal=*/false}},
             {static_cast<int32_t>(page)}, 1);
      expect(kNotCausal, row, 1, attention_to(begin, end, kStep));
    }
  }
  /// Several rows and pages, rows of nobody behind them, and rows that see no key: rows 2 .. 4 and 7 .. 8.
  void attend_with_gaps() {
    const auto keys = static_cast<int32_t>(page_size_ + kBehindPage);
    attend(2, 7, {{0, 3, 0, keys, /*causal=*/false}, {5, 2, 1, 0, /*causal=*/false}}, {1, 2, 0, 0}, 2);
    expect(kNotCausal, 2, 3, attention_to(0, keys, kSmallStep));
    std::vector<float> sums(static_cast<size_t>(2 * heads_));
    ops_.download(ctx_, lse(partials_.slice_rows(7, 2)), sums);
    for (const float sum : sums)
      if (sum != -std::numeric_limits<float>::infinity())
        refuse(kNotCausal, "a row without keys", sum, "-inf");
  }
  /// Both parts of one row, the first alone of another.
  void merge() {
    const Matrix merged = arena_.matrix(2, partials_.cols);
    ops_.merge_partials(ctx_, {.partials = out(partials_),
                               .lse_ln = lse(partials_),
                               .rows = ops_.upload(ctx_, std::array{0, 0, 1, -1}),
                               .heads_q = static_cast<int32_t>(heads_),
                               .out = out(merged),
                               .out_lse_ln = lse(merged)});
    partials_ = merged;
    const char* name = card_.cann().ops.attention_update.name;
    expect(name, 0, 1, attention_to(0, kKeys, kStep));
    expect(name, 1, 1, attention_to(0, kFirstPart, kStep));
  }

 private:
  template <class F>
  Matrix put(int64_t rows, int64_t cols, F value) {
    const int64_t bytes = rows * cols * size_of(DType::kBF16);
    const std::shared_ptr<char> host = card_.pinned(bytes);
    for (int64_t i = 0; i < rows * cols; ++i)
      reinterpret_cast<uint16_t*>(host.get())[i] = f32_to_bf16(value(i / cols, i % cols));
    const Matrix result = arena_.matrix(rows, cols, DType::kBF16);
    stream_.copy_in(result.data, host, bytes);
    return result;
  }
  Matrix out(Matrix rows) const { return rows.slice_cols(0, rows.cols - heads_); }
  Matrix lse(Matrix rows) const { return rows.slice_cols(rows.cols - heads_, heads_); }

  /// Rows of the queries and of the partials alike; `segments` count from `begin`.
  void attend(int64_t begin, int64_t rows, const std::vector<Segment>& segments,
              const std::vector<int32_t>& pages, int32_t max_pages) {
    const auto sequences = static_cast<int32_t>(pages.size()) / max_pages;
    ops_.attention(ctx_, {.q = queries_.slice_rows(begin, rows),
                          .pool = pool_.get(),
                          .segments = segments,
                          .block_table = {ops_.upload(ctx_, pages), sequences, max_pages},
                          .heads_q = static_cast<int32_t>(heads_),
                          .scale = 1,
                          .out = out(partials_.slice_rows(begin, rows)),
                          .lse_ln = lse(partials_.slice_rows(begin, rows))});
  }

  void expect(const char* what, int64_t begin, int64_t rows, const Expected& expected) {
    std::vector<float> values(static_cast<size_t>(rows * partials_.cols));
    ops_.download(ctx_, partials_.slice_rows(begin, rows), values);
    for (int64_t i = 0; i < std::ssize(values); ++i) {
      const bool is_lse = i % partials_.cols >= partials_.cols - heads_;
      const double wanted = is_lse ? expected.lse_ln : expected.out;
      const float value = values[static_cast<size_t>(i)];
      if (std::abs(value - wanted) <= (is_lse ? kLseBound : kRelative * wanted)) continue;
      refuse(what, is_lse ? "the log-sum-exp" : "the result", value, fmt::format("{:.6g}", wanted));
    }
  }
  [[noreturn]] void refuse(const char* what, const char* of, float value, const std::string& wanted) const {
    throw Error(ErrorCode::kNotSupported,
                fmt::format("backend ascend: --kv shard needs {}, which gives {:.6g} for {} of a small "
                            "problem on this device (CANN {}) where {} is right; use --kv replicate",
                            what, value, of, card_.cann().version(), wanted));
  }

  static constexpr int64_t kRows = 9;
  static constexpr const char* kNotCausal = "attention that is not causal";
  Ops& ops_;
  Card& card_;
  std::unique_ptr<KvPool> pool_;
  Arena arena_;
  AscendStream stream_;  // ends before what its work uses
  OpContext ctx_{.arena = arena_, .stream = &stream_};
  const int64_t page_size_;
  int64_t heads_ = 0;
  Matrix queries_, partials_;
};

}  // namespace

void try_partials(Ops& ops, Card& card, const KvShape& shape) {
  Trial trial(ops, card, shape);
  trial.attend_to_parts();
  trial.attend_with_gaps();
  trial.merge();
}

}  // namespace longspan::ascend
