#include "device/self_check.h"

#include <longspan/error.h>

#include <cmath>
#include <functional>
#include <random>

#include "device/reference/reference_device.h"

namespace longspan {
namespace {

// Sizes that the ops of a device with 16-byte alignment and pages of 128 tokens take without padding.
constexpr int64_t kRows = 6, kHidden = 64, kWidth = 32, kVocab = 96;
constexpr int32_t kHeads = 4, kKvHeads = 2, kDim = 64, kExperts = 4, kChosen = 2;
constexpr int32_t kPage = 128, kPages = 4, kKeys = 200;

// One rounding to bf16 is at most half of this. Inputs are positive where sums are rounded, so that nothing
// cancels and relative errors add up.
constexpr double kBf16 = 0x1p-8;
constexpr float kNoKeys = -1000;
constexpr double kF32 = 1e-5;  // f32 sums of some hundred terms, exp, sin

using Values = std::vector<float>;

Values random_values(int64_t count, uint32_t seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  Values values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

Values in_bf16(Values values) {
  for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
  return values;
}

WeightView view(const Values& values, int64_t rows, int64_t cols) {
  return {values.data(), DType::kF32, rows, cols, cols};
}

/// One side of the comparison: a device with what calls need.
class Side {
 public:
  explicit Side(Device& device)
      : ops(device.ops()),
        arena(device.memory()),
        stream(device.make_stream()),
        ctx{arena, 1, stream.get()} {}

  Ops& ops;
  Arena arena;

 private:
  std::vector<std::unique_ptr<EmbeddingTable>> tables_;

 public:
  std::unique_ptr<Stream> stream;  // ends before what its work uses
  OpContext ctx;

  /// Any device has a way in for f32 rows: its embedding.
  Matrix put(const Values& values, int64_t rows, int64_t cols) {
    tables_.push_back(ops.make_embedding(view(values, rows, cols)));
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const Matrix result = arena.matrix(rows, cols);
    ops.embedding(ctx, ops.upload(ctx, ids), *tables_.back(), result);
    return result;
  }
  /// The same rows in the dtype that q, k, v and an MLP's inner rows have on the device, and back.
  Matrix inner(Matrix m) { return converted(m, ops.inner_dtype()); }
  Matrix in_f32(Matrix m) { return converted(m, DType::kF32); }
  Values get(Matrix m) {
    Values values(static_cast<size_t>(m.rows * m.cols));
    ops.download(ctx, m, values);
    return values;
  }

 private:
  Matrix converted(Matrix m, DType dtype) {
    const Matrix result = arena.matrix(m.rows, m.cols, dtype);
    ops.convert(ctx, m, result);
    return result;
  }
};

double distance(const Values& expected, const Values& actual) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(double{expected[i]} - actual[i]) / std::max(1.0, std::abs(double{expected[i]}));
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

class Checker {
 public:
  explicit Checker(Device& device)
      : device_(device), reference_(make_reference_device(DType::kBF16, false)) {}

  void check(const char* op, double bound, const std::function<Values(Side&)>& run) {
    OpCheck result{.op = op, .error = 0, .bound = bound, .failure = ""};
    try {
      Side reference(*reference_), side(device_);
      result.error = distance(run(reference), run(side));
    } catch (const std::exception& failure) {
      result.failure = failure.what();
    }
    results.push_back(result);
  }

  std::vector<OpCheck> results;

 private:
  Device& device_;
  std::unique_ptr<Device> reference_;
};

const Values kX = random_values(kRows * kHidden, 1, 0.1f, 1.0f);
const Values kSigned = random_values(kRows * kHidden, 2, -2.0f, 2.0f);

void check_rows(Checker& checker) {
  checker.check("embedding", 0, [](Side& s) { return s.get(s.put(kSigned, kRows, kHidden)); });
  checker.check("gather_rows", 0, [](Side& s) {
    const Matrix x = s.put(kSigned, kRows, kHidden), out = s.arena.matrix(3, kHidden);
    s.ops.gather_rows(s.ctx, x, s.ops.upload(s.ctx, std::vector<int32_t>{5, 0, 5}), out);
    return s.get(out);
  });
  checker.check("rms_norm", kF32, [](Side& s) {
    const Matrix x = s.put(kSigned, kRows, kHidden), out = s.arena.matrix(kRows, kHidden);
    const auto weight = s.ops.resident(random_values(kHidden, 3, 0.5f, 1.5f));
    s.ops.rms_norm(s.ctx, x, weight.get(), 1e-6f, out);
    return s.get(out);
  });
  checker.check("add", kF32, [](Side& s) {
    const Matrix out = s.put(kX, kRows, kHidden);
    s.ops.add(s.ctx, s.put(kSigned, kRows, kHidden), out);
    return s.get(out);
  });
  checker.check("clear", 0, [](Side& s) {
    const Matrix out = s.put(kX, kRows, kHidden);
    s.ops.clear(s.ctx, out);
    return s.get(out);
  });
  checker.check("convert", 0, [](Side& s) {
    const Matrix half = s.arena.matrix(kRows, kHidden, DType::kBF16), out = s.arena.matrix(kRows, kHidden);
    s.ops.convert(s.ctx, s.put(kSigned, kRows, kHidden), half);
    s.ops.convert(s.ctx, half, out);
    return s.get(out);
  });
  checker.check("swiglu", kF32, [](Side& s) {
    const Matrix out = s.arena.matrix(kRows, kHidden / 2);
    s.ops.swiglu(s.ctx, s.put(kSigned, kRows, kHidden), out);
    return s.get(out);
  });
  checker.check("add_gated", kF32, [](Side& s) {
    const Matrix out = s.put(kX, kRows, kHidden);
    s.ops.add_gated(s.ctx, s.put(random_values(kRows, 4, -3, 3), kRows, 1), s.put(kSigned, kRows, kHidden),
                    out);
    return s.get(out);
  });
}

void check_products(Checker& checker) {
  const auto product = [](LinearPrecision precision, bool accumulate, bool bias) {
    return [=](Side& s) {
      const Values w = random_values(kWidth * kHidden, 5, 0.0f, 0.2f), b = random_values(kWidth, 6, 0, 1);
      const WeightView weights[] = {view(w, kWidth, kHidden)}, biases[] = {view(b, 1, kWidth)};
      const auto packed = s.ops.pack_linear(
          weights, bias ? std::span<const WeightView>(biases) : std::span<const WeightView>(), precision);
      const Matrix out = s.put(random_values(kRows * kWidth, 7, 0, 1), kRows, kWidth);
      s.ops.linear(s.ctx, s.put(kX, kRows, kHidden), *packed, out, accumulate);
      return s.get(out);
    };
  };
  checker.check("linear", kBf16 + kF32, product(LinearPrecision::kCompute, false, false));
  checker.check("linear, added, with bias", kBf16 + kF32, product(LinearPrecision::kCompute, true, true));
  checker.check("linear in f32", kF32, product(LinearPrecision::kF32, false, false));
  // A product, silu of it (at most 1.3 times as far off) times another, and the result: three roundings and a
  // bit.
  checker.check("linear, swiglu, inner rows", 2 * kBf16 + kF32, [](Side& s) {
    const Values w = in_bf16(random_values(kWidth * kHidden, 19, 0.0f, 0.2f));
    const WeightView weights[] = {view(w, kWidth, kHidden)};
    const auto packed = s.ops.pack_linear(weights, {}, LinearPrecision::kCompute);
    const DType inner = s.ops.inner_dtype();
    const Matrix gate_up = s.arena.matrix(kRows, kWidth, inner),
                 out = s.arena.matrix(kRows, kWidth / 2, inner);
    s.ops.linear(s.ctx, s.put(in_bf16(kX), kRows, kHidden), *packed, gate_up, false);
    s.ops.swiglu(s.ctx, gate_up, out);
    return s.get(s.in_f32(out));
  });
}

void check_attention(Checker& checker) {
  const auto turned = [](bool inner) {
    return [=](Side& s) {
      const Matrix table = s.arena.matrix(kRows, s.ops.rope_cols(kDim));
      const Values frequencies = random_values(kDim / 2, 8, 0.01f, 1.0f);
      s.ops.rope_table(s.ctx, s.ops.upload(s.ctx, std::vector<int32_t>{0, 1, 2, 77, 500, 3}), frequencies,
                       1.1f, table);
      Matrix x = s.put(in_bf16(random_values(kRows * kHeads * kDim, 9, -2, 2)), kRows, kHeads * kDim);
      if (inner) x = s.inner(x);
      const auto weight = s.ops.resident(random_values(kDim, 10, 0.5f, 1.5f));
      s.ops.qk_norm_rope(s.ctx, {.x = x,
                                 .heads = kHeads,
                                 .head_dim = kDim,
                                 .norm_weight = weight.get(),
                                 .eps = 1e-6f,
                                 .cos_sin = table});
      return s.get(s.in_f32(x));
    };
  };
  checker.check("qk_norm_rope", kF32, turned(false));
  checker.check("qk_norm_rope, inner rows", kBf16, turned(true));

  // Keys of one sequence on pages 2 and 1; a segment in its middle and one at its end.
  const auto filled_pool = [](Side& s) {
    auto pool = s.ops.make_kv_pool({1, kPages, kPage, kKvHeads, kDim, kKvHeads, kDim});
    std::vector<int32_t> slots;
    for (int32_t i = 0; i < kKeys; ++i) slots.push_back((i < kPage ? 2 : 1) * kPage + i % kPage);
    const int64_t cols = kKvHeads * kDim;
    s.ops.kv_write(s.ctx, *pool, 0, s.put(random_values(kKeys * cols, 11, -1, 1), kKeys, cols),
                   s.put(random_values(kKeys * cols, 12, -1, 1), kKeys, cols), s.ops.upload(s.ctx, slots));
    return pool;
  };
  checker.check("kv_write, kv_read", 0, [=](Side& s) {
    const auto pool = filled_pool(s);
    const Matrix k = s.arena.matrix(3, kKvHeads * kDim), v = s.arena.matrix(3, kKvHeads * kDim);
    s.ops.kv_read(s.ctx, *pool, 0, s.ops.upload(s.ctx, std::vector<int32_t>{256, 130, 128}), k, v);
    Values values = s.get(k);
    const Values more = s.get(v);
    values.insert(values.end(), more.begin(), more.end());
    return values;
  });
  checker.check("kv_write, some nowhere", 0, [=](Side& s) {
    const auto pool = filled_pool(s);
    const int64_t cols = kKvHeads * kDim;
    const Matrix rows = s.put(random_values(4 * 2 * cols, 20, -1, 1), 4, 2 * cols);
    s.ops.kv_write(s.ctx, *pool, 0, rows.slice_cols(0, cols), rows.slice_cols(cols, cols),
                   s.ops.upload(s.ctx, std::vector<int32_t>{-1, 130, -1, 128}));
    const Matrix back = s.arena.matrix(3, 2 * cols, s.ops.inner_dtype());
    s.ops.kv_read(s.ctx, *pool, 0, s.ops.upload(s.ctx, std::vector<int32_t>{128, 129, 130}),
                  back.slice_cols(0, cols), back.slice_cols(cols, cols));
    return s.get(s.in_f32(back));
  });
  checker.check("kv_copy", 0, [=](Side& s) {
    const auto pool = filled_pool(s);
    s.ops.kv_copy(s.ctx, *pool, std::vector<int32_t>{256, 257, 258}, std::vector<int32_t>{128, 129, 130});
    const Matrix k = s.arena.matrix(4, kKvHeads * kDim), v = s.arena.matrix(4, kKvHeads * kDim);
    s.ops.kv_read(s.ctx, *pool, 0, s.ops.upload(s.ctx, std::vector<int32_t>{128, 129, 130, 131}), k, v);
    Values values = s.get(k);
    const Values more = s.get(v);
    values.insert(values.end(), more.begin(), more.end());
    return values;
  });
  const auto attend = [=](bool causal, bool lse, bool inner = false) {
    return [=](Side& s) {
      const auto pool = filled_pool(s);
      const std::vector<Segment> segments = {{0, 4, 0, 137, causal}, {4, 2, 0, kKeys, causal}};
      const int64_t cols = kHeads * kDim;
      // q is exact in bf16: only weights and results are rounded, and |v| is below 1.
      Matrix q = s.put(in_bf16(random_values(kRows * cols, 13, -2, 2)), kRows, cols);
      if (inner) q = s.inner(q);
      const Matrix out = s.arena.matrix(kRows, cols, q.dtype), sums = s.arena.matrix(kRows, kHeads);
      s.ops.attention(s.ctx, {.q = q,
                              .pool = pool.get(),
                              .layer = 0,
                              .segments = segments,
                              .block_table = {s.ops.upload(s.ctx, std::vector<int32_t>{2, 1}), 1, 2},
                              .heads_q = kHeads,
                              .scale = 0.125f,
                              .out = out,
                              .lse_ln = lse ? sums : Matrix{}});
      return s.get(lse ? sums : s.in_f32(out));
    };
  };
  checker.check("attention", kBf16, attend(true, false));
  checker.check("attention, inner rows", kBf16, attend(true, false, true));
  checker.check("attention, not causal", kBf16, attend(false, false));
  checker.check("attention, log-sum-exp", 1e-4, attend(true, true));
  checker.check("attention, not causal, lse", 1e-4, attend(false, true));
  // The same rows and keys, but row 2 is nobody's and row 3 sees no key.
  const auto attend_to_some = [=](bool lse) {
    return [=](Side& s) {
      const auto pool = filled_pool(s);
      const std::vector<Segment> segments = {
          {0, 2, 0, 137, false}, {3, 1, 0, 0, false}, {4, 2, 0, kKeys, false}};
      const int64_t cols = kHeads * kDim;
      const Matrix both = s.arena.matrix(kRows, cols + kHeads);
      s.ops.attention(s.ctx,
                      {.q = s.inner(s.put(in_bf16(random_values(kRows * cols, 13, -2, 2)), kRows, cols)),
                       .pool = pool.get(),
                       .segments = segments,
                       .block_table = {s.ops.upload(s.ctx, std::vector<int32_t>{2, 1}), 1, 2},
                       .heads_q = kHeads,
                       .scale = 0.125f,
                       .out = both.slice_cols(0, cols),
                       .lse_ln = both.slice_cols(cols, kHeads)});
      Values all;
      for (const auto& [begin, rows] : {std::pair{0, 2}, {3, 3}}) {
        const Matrix from = both.slice_rows(begin, rows);
        const Values some = s.get(lse ? from.slice_cols(cols, kHeads) : from.slice_cols(0, cols));
        all.insert(all.end(), some.begin(), some.end());
      }
      for (float& value : all)
        if (value == -INFINITY) value = kNoKeys;  // of infinities no distance is told
      return all;
    };
  };
  checker.check("attention, some see none", kBf16, attend_to_some(false));
  checker.check("attention, some, lse", 1e-4, attend_to_some(true));
}

// What is done to keys that are in several places, and to experts that are.
void check_parts(Checker& checker, const Ops& ops) {
  if (ops.merges_partials())
    checker.check("merge_partials", kF32, [](Side& s) {
      const Matrix out = s.arena.matrix(2, kHidden), sums = s.arena.matrix(2, kHeads);
      const std::vector<int32_t> rows = {0, 1, 5, -1, 2, 3};  // three parts of two rows
      s.ops.merge_partials(s.ctx, {.partials = s.put(kSigned, kRows, kHidden),
                                   .lse_ln = s.put(random_values(kRows * kHeads, 19, -3, 3), kRows, kHeads),
                                   .rows = s.ops.upload(s.ctx, rows),
                                   .heads_q = kHeads,
                                   .out = out,
                                   .out_lse_ln = sums});
      Values values = s.get(out);
      const Values more = s.get(sums);
      values.insert(values.end(), more.begin(), more.end());
      return values;
    });
  if (!ops.combines_experts()) return;
  checker.check("moe_combine", kF32, [](Side& s) {
    const Matrix out = s.put(kX, kRows, kHidden).slice_rows(0, 2);
    const std::vector<int32_t> rows = {0, 1, 5, -1, 2, 3};
    s.ops.moe_combine(s.ctx, s.put(kSigned, kRows, kHidden), s.ops.upload(s.ctx, rows), out);
    return s.get(out);
  });
}

bool splits_experts(const Ops& ops) {
  try {
    ops.check_split_experts();
  } catch (const Error&) {
    return false;
  }
  return true;
}

void check_experts(Checker& checker, bool splits) {
  const Values logits = random_values(kRows * kExperts, 14, -2, 2);
  checker.check("moe_route", kF32, [=](Side& s) {
    const Matrix ids = s.arena.matrix(kRows, kChosen, DType::kI32), weights = s.arena.matrix(kRows, kChosen);
    s.ops.moe_route(s.ctx, s.put(logits, kRows, kExperts), true, ids, weights);
    return s.get(weights);
  });
  // Products, activation and sum each round: with the slope of silu at most 1.3, below four roundings in all.
  const auto multiply = [=](Side& s, int64_t first, int64_t end) {
    const Values gate = random_values(kExperts * kWidth * kHidden, 15, 0.0f, 0.1f),
                 up = random_values(kExperts * kWidth * kHidden, 16, 0.0f, 0.1f),
                 down = random_values(kExperts * kWidth * kHidden, 17, 0.0f, 0.1f);
    std::vector<ExpertSource> sources;
    for (int64_t e = first; e < end; ++e) {
      const auto slice = [&](const Values& all, int64_t rows, int64_t cols) {
        return WeightView{all.data() + e * kWidth * kHidden, DType::kF32, rows, cols, cols};
      };
      sources.push_back(
          {slice(gate, kWidth, kHidden), slice(up, kWidth, kHidden), slice(down, kHidden, kWidth)});
    }
    const auto packed = s.ops.pack_experts(sources, static_cast<int32_t>(first), nullptr);
    packed->of_layer = static_cast<int32_t>(kExperts);
    const Matrix ids = s.arena.matrix(kRows, kChosen, DType::kI32), weights = s.arena.matrix(kRows, kChosen);
    s.ops.moe_route(s.ctx, s.put(logits, kRows, kExperts), true, ids, weights);
    const Matrix out = s.put(kX, kRows, kHidden);
    s.ops.moe_experts(s.ctx, s.put(kX, kRows, kHidden), ids, weights, *packed, out);
    return s.get(out);
  };
  checker.check("moe_experts", 4 * kBf16, [=](Side& s) { return multiply(s, 0, kExperts); });
  if (splits)
    checker.check("moe_experts, some of them", 4 * kBf16,
                  [=](Side& s) { return multiply(s, 1, kExperts - 1); });
}

void check_scores(Checker& checker) {
  const Values logits = random_values(kRows * kVocab, 18, -8, 8);
  checker.check("log_softmax_at", 1e-4, [=](Side& s) {
    const Matrix out = s.arena.matrix(kRows, 1);
    s.ops.log_softmax_at(s.ctx, s.put(logits, kRows, kVocab),
                         s.ops.upload(s.ctx, std::vector<int32_t>{0, 95, 7, 7, 50, 1}), out);
    return s.get(out);
  });
  checker.check("log_sum_exp", 1e-4, [=](Side& s) {
    const Matrix out = s.arena.matrix(kRows, 1);
    s.ops.log_sum_exp(s.ctx, s.put(logits, kRows, kVocab), out);
    return s.get(out);
  });
}

}  // namespace

std::vector<OpCheck> check_ops(Device& device) {
  Checker checker(device);
  check_rows(checker);
  check_products(checker);
  check_attention(checker);
  check_parts(checker, device.ops());
  check_experts(checker, splits_experts(device.ops()));
  check_scores(checker);
  return checker.results;
}

}  // namespace longspan
