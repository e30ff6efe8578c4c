#include <fmt/format.h>
#include <longspan/error.h>

#include <array>
#include <cmath>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

constexpr int64_t kKeys = 5, kFirstPart = 3;
// Key j scores j, its value is j + 1 throughout: weights that differ, so that a mean without weights is seen.
constexpr float kScoreStep = 1.0f;
// Weights and result rounded to bf16, twice.
constexpr double kBound = 4 * 0x1p-8 * kKeys;

struct Expected {
  double out = 0, lse_ln = 0;
};

Expected attention_to(int64_t begin, int64_t end) {
  double sum = 0, weighted = 0;
  for (int64_t key = begin; key < end; ++key) {
    const double weight = std::exp(double{kScoreStep} * static_cast<double>(key));
    sum += weight;
    weighted += weight * static_cast<double>(key + 1);
  }
  return {weighted / sum, std::log(sum)};
}

/// Pages 1 and 2 hold the keys of the two parts.
class Trial {
 public:
  Trial(Ops& ops, Card& card, KvShape shape) : ops_(ops), card_(card), arena_(card), stream_(card) {
    shape.layers = 1;
    shape.pages = 3;
    heads_ = shape.heads_q ? shape.heads_q : shape.heads_k;
    pool_ = ops.make_kv_pool(shape);
    const Matrix rows =
        put(kKeys, shape.heads_k * shape.dim_k + shape.heads_v * shape.dim_v, [&](int64_t key, int64_t col) {
          if (col >= shape.heads_k * shape.dim_k) return static_cast<float>(key + 1);
          return col % shape.dim_k == 0 ? kScoreStep * static_cast<float>(key) : 0.0f;
        });
    std::vector<int32_t> slots;
    for (int64_t key = 0; key < kKeys; ++key)
      slots.push_back(static_cast<int32_t>(key < kFirstPart ? shape.page_size + key
                                                            : 2 * shape.page_size + key - kFirstPart));
    const int64_t k_cols = shape.heads_k * shape.dim_k;
    ops.kv_write(ctx_, *pool_, 0, rows.slice_cols(0, k_cols), rows.slice_cols(k_cols, rows.cols - k_cols),
                 ops.upload(ctx_, slots));
    query_ = put(1, heads_ * shape.dim_k,
                 [&](int64_t, int64_t col) { return col % shape.dim_k == 0 ? 1.0f : 0.0f; });
    partials_ = arena_.matrix(2, heads_ * (shape.dim_v + 1));
  }

  void attend(int64_t part, int64_t keys) {
    const Segment segments[] = {{0, 1, 0, static_cast<int32_t>(keys), /*causal=*/false}};
    ops_.attention(ctx_,
                   {.q = query_,
                    .pool = pool_.get(),
                    .segments = segments,
                    .block_table = {ops_.upload(ctx_, std::array{static_cast<int32_t>(1 + part)}), 1, 1},
                    .heads_q = static_cast<int32_t>(heads_),
                    .scale = 1,
                    .out = out(partials_.slice_rows(part, 1)),
                    .lse_ln = lse(partials_.slice_rows(part, 1))});
    expect("attention that is not causal", partials_.slice_rows(part, 1),
           attention_to(part * kFirstPart, part * kFirstPart + keys));
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
    const char* name = card_.cann().ops.attention_update.name;
    expect(name, merged.slice_rows(0, 1), attention_to(0, kKeys));
    expect(name, merged.slice_rows(1, 1), attention_to(0, kFirstPart));
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

  void expect(const char* what, Matrix row, const Expected& expected) {
    std::vector<float> values(static_cast<size_t>(row.cols));
    ops_.download(ctx_, row, values);
    for (int64_t i = 0; i < row.cols; ++i) {
      const bool is_lse = i >= row.cols - heads_;
      const double wanted = is_lse ? expected.lse_ln : expected.out;
      const float value = values[static_cast<size_t>(i)];
      if (std::abs(value - wanted) <= kBound) continue;
      throw Error(ErrorCode::kNotSupported,
                  fmt::format("backend ascend: --kv shard needs {}, which gives {:.6g} for {} of a small "
                              "problem on this device (CANN {}) where {:.6g} is right; use --kv replicate",
                              what, value, is_lse ? "the log-sum-exp" : "the result", card_.cann().version(),
                              wanted));
    }
  }

  Ops& ops_;
  Card& card_;
  std::unique_ptr<KvPool> pool_;
  Arena arena_;
  AscendStream stream_;  // ends before what its work uses
  OpContext ctx_{.arena = arena_, .stream = &stream_};
  int64_t heads_ = 0;
  Matrix query_, partials_;
};

}  // namespace

void try_partials(Ops& ops, Card& card, const KvShape& shape) {
  Trial trial(ops, card, shape);
  trial.attend(0, kFirstPart);
  trial.attend(1, kKeys - kFirstPart);
  trial.merge();
}

}  // namespace longspan::ascend
