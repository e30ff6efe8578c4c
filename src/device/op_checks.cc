#include "device/op_checks.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <utility>

namespace longspan {
namespace {

void require(bool ok, const char* op, const char* rule) {
  if (!ok) [[unlikely]]
    throw Error(ErrorCode::kInternal, fmt::format("{}: {}", op, rule));
}

void require_equal(int64_t a, int64_t b, const char* op, const char* symbol) {
  if (a != b) [[unlikely]]
    throw Error(ErrorCode::kInternal, fmt::format("{}: {} disagrees: {} and {}", op, symbol, a, b));
}

void require_dtype(Matrix m, DType dtype, const char* op, const char* name) {
  if (m.dtype != dtype) [[unlikely]]
    throw Error(ErrorCode::kInternal,
                fmt::format("{}: {} must be {}, is {}", op, name, to_string(dtype), to_string(m.dtype)));
  if (m.rows < 0 || m.row_stride < m.cols || (m.data == nullptr && m.rows * m.cols != 0)) [[unlikely]]
    throw Error(ErrorCode::kInternal, fmt::format("{}: {} is not a valid matrix: [{}, {}], row stride {}", op,
                                                  name, m.rows, m.cols, m.row_stride));
}

void check_inner(Matrix m, DType inner, const char* op, const char* name) {
  require_dtype(m, m.dtype == inner ? inner : DType::kF32, op, name);
}

}  // namespace

void check_f32(Matrix m, const char* op, const char* name) {
  require_dtype(m, DType::kF32, op, name);
}

void check_embedding(IndexArray ids, WeightView table, Matrix out) {
  constexpr const char* op = "embedding";
  check_f32(out, op, "out");
  require_equal(ids.size, out.rows, op, "T of ids and out");
  require_equal(table.cols, out.cols, op, "H of table and out");
  for (int64_t t = 0; t < ids.size; ++t) {
    if (ids.host[t] < 0 || ids.host[t] >= table.rows) [[unlikely]]
      throw Error(ErrorCode::kInternal, fmt::format("{}: ids[{}] = {} is outside the {} rows of the table",
                                                    op, t, ids.host[t], table.rows));
  }
}

void check_rms_norm(Matrix x, const float* weight, Matrix out) {
  constexpr const char* op = "rms_norm";
  check_f32(x, op, "x");
  check_f32(out, op, "out");
  require(weight != nullptr, op, "weight is missing");
  require_equal(x.rows, out.rows, op, "T of x and out");
  require_equal(x.cols, out.cols, op, "H of x and out");
}

void check_linear(Matrix x, const LinearWeight& w, Matrix out, DType inner) {
  constexpr const char* op = "linear";
  check_inner(x, inner, op, "x");
  check_inner(out, inner, op, "out");
  require_equal(x.rows, out.rows, op, "T of x and out");
  require_equal(x.cols, w.in_features, op, "in of x and w");
  require_equal(out.cols, w.out_features, op, "out of out and w");
}

void check_rope_table(IndexArray positions, std::span<const float> inv_freq, Matrix cos_sin, int64_t cols) {
  constexpr const char* op = "rope_table";
  check_f32(cos_sin, op, "cos_sin");
  require_equal(positions.size, cos_sin.rows, op, "T of positions and cos_sin");
  require_equal(cols * 2 * static_cast<int64_t>(inv_freq.size()), cos_sin.cols, op,
                "D of inv_freq and cos_sin");
}

void check_qk_norm_rope(const QkNormRopeArgs& args, int64_t cols, DType inner) {
  constexpr const char* op = "qk_norm_rope";
  check_inner(args.x, inner, op, "x");
  require_equal(int64_t{args.heads} * args.head_dim, args.x.cols, op, "heads * D of x");
  if (args.cos_sin.data == nullptr) return;
  check_f32(args.cos_sin, op, "cos_sin");
  require(args.head_dim % 2 == 0, op, "D must be even to be rotated");
  require_equal(args.cos_sin.rows, args.x.rows, op, "T of x and cos_sin");
  require_equal(args.cos_sin.cols, cols * args.head_dim, op, "D of x and cos_sin");
}

void check_qkv(const QkvArgs& args, int64_t cols, DType inner) {
  constexpr const char* op = "qkv_norm_rope";
  const int64_t q_cols = int64_t{args.heads_q} * args.head_dim,
                k_cols = int64_t{args.heads_kv} * args.head_dim;
  for (const auto& [m, name] : {std::pair(args.qkv, "qkv"), {args.q, "q"}, {args.kv, "kv"}})
    check_inner(m, inner, op, name);
  require_equal(args.qkv.cols, q_cols + 2 * k_cols, op, "qkv cols = (Hq + 2 Hk) * D");
  require_equal(args.q.cols, q_cols, op, "q cols = Hq * D");
  require_equal(args.kv.cols, 2 * k_cols, op, "kv cols = 2 Hk * D");
  require_equal(args.q.rows, args.qkv.rows, op, "T of q and qkv");
  require_equal(args.kv.rows, args.qkv.rows, op, "T of kv and qkv");
  if (!args.cos_sin.data) return;
  require_equal(args.cos_sin.rows, args.qkv.rows, op, "T of cos_sin and qkv");
  require_equal(args.cos_sin.cols, cols * args.head_dim, op, "cols of cos_sin");
}

void check_attention(const AttentionArgs& args, DType inner) {
  require(args.pool != nullptr, "attention", "a pool");
  const KvShape& s = args.pool->shape;
  require(s.heads_k == s.heads_v, "attention", "Hk = Hv");
  require(args.heads_q >= 1 && args.heads_q % s.heads_k == 0, "attention", "Hq a multiple of Hk");
  require(args.layer >= 0 && args.layer < s.layers, "attention", "0 <= layer < layers");
  check_inner(args.q, inner, "attention", "q");
  check_inner(args.out, inner, "attention", "out");
  require(args.q.cols == static_cast<int64_t>(args.heads_q) * s.dim_k, "attention", "q cols = Hq * Dk");
  require(args.out.cols == static_cast<int64_t>(args.heads_q) * s.dim_v, "attention", "out cols = Hq * Dv");
  require(args.out.rows == args.q.rows, "attention", "out rows = T");
  if (args.lse_ln.data != nullptr) {
    require(args.lse_ln.dtype == DType::kF32 && args.lse_ln.cols == args.heads_q &&
                args.lse_ln.rows == args.q.rows,
            "attention", "lse_ln f32 [T, Hq]");
  }
  const BlockTable& table = args.block_table;
  require(table.entries.size >= static_cast<int64_t>(table.rows) * table.max_pages, "attention",
          "block table entries = rows * max_pages");
  for (const Segment& segment : args.segments) {
    require(segment.q_len >= 1 && segment.q_begin >= 0 &&
                segment.q_begin + static_cast<int64_t>(segment.q_len) <= args.q.rows,
            "attention", "segment rows lie in [0, T)");
    require(segment.kv_len >= (segment.causal ? segment.q_len : 0), "attention",
            "kv_len >= q_len where causal");
    require(segment.block_table_row >= 0 && segment.block_table_row < table.rows, "attention",
            "0 <= block_table_row < rows");
    const int64_t pages = (static_cast<int64_t>(segment.kv_len) + s.page_size - 1) / s.page_size;
    require(pages <= table.max_pages, "attention", "kv_len <= max_pages * page_size");
    const int32_t* row = table.entries.host + static_cast<int64_t>(segment.block_table_row) * table.max_pages;
    for (int64_t i = 0; i < pages; ++i) {
      require(row[i] >= 0 && row[i] < s.pages, "attention", "0 <= page < pages");
    }
  }
}

void check_swiglu(Matrix gate_up, Matrix out, DType inner) {
  constexpr const char* op = "swiglu";
  check_inner(gate_up, inner, op, "gate_up");
  check_inner(out, inner, op, "out");
  require_equal(gate_up.rows, out.rows, op, "T of gate_up and out");
  require_equal(gate_up.cols, 2 * out.cols, op, "2 I of gate_up and out");
}

void check_moe_route(Matrix logits, Matrix ids, Matrix weights) {
  constexpr const char* op = "moe_route";
  check_f32(logits, op, "logits");
  require_dtype(ids, DType::kI32, op, "ids");
  check_f32(weights, op, "weights");
  require_equal(logits.rows, ids.rows, op, "T of logits and ids");
  require_equal(logits.rows, weights.rows, op, "T of logits and weights");
  require_equal(ids.cols, weights.cols, op, "k of ids and weights");
  require(ids.cols >= 1 && ids.cols <= logits.cols, op, "k must be 1..E");
}

void check_moe_experts(Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts, Matrix out) {
  constexpr const char* op = "moe_experts";
  check_f32(x, op, "x");
  require_dtype(ids, DType::kI32, op, "ids");
  check_f32(weights, op, "weights");
  check_f32(out, op, "out");
  require_equal(x.rows, ids.rows, op, "T of x and ids");
  require_equal(x.rows, weights.rows, op, "T of x and weights");
  require_equal(x.rows, out.rows, op, "T of x and out");
  require_equal(ids.cols, weights.cols, op, "k of ids and weights");
  require_equal(x.cols, experts.hidden, op, "H of x and experts");
  require_equal(out.cols, experts.hidden, op, "H of out and experts");
}

namespace {

void check_sum(Matrix y, Matrix out, const char* op) {
  check_f32(y, op, "y");
  check_f32(out, op, "out");
  require_equal(y.rows, out.rows, op, "T of y and out");
  require_equal(y.cols, out.cols, op, "H of y and out");
}

}  // namespace

void check_add_gated(Matrix gate, Matrix y, Matrix out) {
  constexpr const char* op = "add_gated";
  check_f32(gate, op, "gate");
  check_sum(y, out, op);
  require_equal(gate.rows, out.rows, op, "T of gate and out");
  require(gate.cols >= 1, op, "gate needs one column");
}

void check_add(Matrix y, Matrix out) {
  check_sum(y, out, "add");
}

void check_log_sum_exp(Matrix logits, Matrix out) {
  constexpr const char* op = "log_sum_exp";
  check_f32(logits, op, "logits");
  check_f32(out, op, "out");
  require_equal(out.rows, logits.rows, op, "rows of out and logits");
  require(out.cols >= 1 && logits.cols >= 1, op, "out and logits need one column");
}

void check_convert(Matrix src, Matrix dst) {
  constexpr const char* op = "convert";
  require_equal(src.rows, dst.rows, op, "rows of src and dst");
  require_equal(src.cols, dst.cols, op, "cols of src and dst");
  require(src.dtype == DType::kF32 || src.dtype == DType::kBF16, op, "src must be f32 or bf16");
  require(dst.dtype == DType::kF32 || dst.dtype == DType::kBF16, op, "dst must be f32 or bf16");
}

void check_gather_rows(Matrix x, IndexArray rows, Matrix out, DType inner) {
  constexpr const char* op = "gather_rows";
  check_inner(x, inner, op, "x");
  require_dtype(out, x.dtype, op, "out");
  require_equal(rows.size, out.rows, op, "rows and out");
  require_equal(x.cols, out.cols, op, "columns of x and out");
  for (int64_t i = 0; i < rows.size; ++i) {
    if (rows.host[i] < 0 || rows.host[i] >= x.rows) [[unlikely]]
      throw Error(ErrorCode::kInternal,
                  fmt::format("{}: rows[{}] = {} is outside the {} rows of x", op, i, rows.host[i], x.rows));
  }
}

void check_log_softmax_at(Matrix logits, IndexArray targets, Matrix out) {
  constexpr const char* op = "log_softmax_at";
  check_f32(logits, op, "logits");
  check_f32(out, op, "out");
  require_equal(targets.size, logits.rows, op, "rows of targets and logits");
  require_equal(out.rows, logits.rows, op, "rows of out and logits");
  require(out.cols >= 1, op, "out needs one column");
  for (int64_t i = 0; i < targets.size; ++i) {
    if (targets.host[i] < 0 || targets.host[i] >= logits.cols) [[unlikely]]
      throw Error(ErrorCode::kInternal,
                  fmt::format("{}: targets[{}] = {} is outside the {} columns of logits", op, i,
                              targets.host[i], logits.cols));
  }
}

namespace {

void check_parts(IndexArray rows, Matrix partials, Matrix out, const char* op) {
  if (out.rows == 0) return;
  require(rows.size % out.rows == 0, op, "rows are [n, T]");
  for (int64_t i = 0; i < rows.size; ++i)
    require(rows.host[i] >= -1 && rows.host[i] < partials.rows, op, "rows must be -1 or a row of partials");
}

}  // namespace

void check_merge_partials(const MergeArgs& args, DType inner) {
  constexpr const char* op = "merge_partials";
  check_f32(args.partials, op, "partials");
  check_f32(args.lse_ln, op, "lse_ln");
  check_inner(args.out, inner, op, "out");
  require(args.heads_q >= 1 && args.out.cols % args.heads_q == 0, op, "Hq must divide the columns of out");
  require_equal(args.partials.cols, args.out.cols, op, "Hq * Dv of partials and out");
  require_equal(args.partials.rows, args.lse_ln.rows, op, "N of partials and lse_ln");
  require_equal(args.lse_ln.cols, args.heads_q, op, "Hq of lse_ln");
  if (args.out_lse_ln.data != nullptr) {
    check_f32(args.out_lse_ln, op, "out_lse_ln");
    require_equal(args.out_lse_ln.rows, args.out.rows, op, "T of out_lse_ln and out");
    require_equal(args.out_lse_ln.cols, args.heads_q, op, "Hq of out_lse_ln");
  }
  check_parts(args.rows, args.partials, args.out, op);
}

void check_moe_combine(Matrix partials, IndexArray rows, Matrix out) {
  constexpr const char* op = "moe_combine";
  check_f32(partials, op, "partials");
  check_f32(out, op, "out");
  require_equal(partials.cols, out.cols, op, "H of partials and out");
  check_parts(rows, partials, out, op);
}

void check_download(Matrix src, std::span<float> dst) {
  check_f32(src, "download", "src");
  require_equal(src.rows * src.cols, static_cast<int64_t>(dst.size()), "download", "elements of src and dst");
}

int64_t check_stacked(std::span<const WeightView> stacked, std::span<const WeightView> biases) {
  constexpr const char* op = "pack_linear";
  require(!stacked.empty(), op, "no weight given");
  if (!biases.empty())
    require_equal(static_cast<int64_t>(biases.size()), static_cast<int64_t>(stacked.size()), op,
                  "number of weights and biases");
  int64_t out = 0;
  for (size_t i = 0; i < stacked.size(); ++i) {
    require_equal(stacked[i].cols, stacked[0].cols, op, "in of the stacked weights");
    require(stacked[i].rows > 0 && stacked[i].cols > 0 && stacked[i].data != nullptr, op,
            "a weight is empty");
    if (!biases.empty() && biases[i].data != nullptr)
      require_equal(biases[i].rows * biases[i].cols, stacked[i].rows, op, "out of weight and bias");
    out += stacked[i].rows;
  }
  return out;
}

std::vector<float> stacked_bias(std::span<const WeightView> stacked, std::span<const WeightView> biases) {
  const auto present = [](const WeightView& b) { return b.data != nullptr; };
  std::vector<float> bias;
  if (std::none_of(biases.begin(), biases.end(), present)) return bias;
  for (size_t i = 0; i < stacked.size(); ++i)
    for (int64_t r = 0; r < stacked[i].rows; ++r)
      bias.push_back(present(biases[i]) ? load_f32(biases[i].data, biases[i].dtype, r) : 0.0f);
  return bias;
}

void describe_experts(std::span<const ExpertSource> experts, int32_t first_expert, ExpertWeights& weights) {
  constexpr const char* op = "pack_experts";
  require(!experts.empty(), op, "no expert given");
  const int64_t width = experts[0].gate.rows;
  const int64_t hidden = experts[0].gate.cols;
  require(width > 0 && hidden > 0, op, "an expert is empty");
  for (const ExpertSource& e : experts) {
    require_equal(e.gate.rows, width, op, "I of gate");
    require_equal(e.gate.cols, hidden, op, "H of gate");
    require_equal(e.up.rows, width, op, "I of up");
    require_equal(e.up.cols, hidden, op, "H of up");
    require_equal(e.down.rows, hidden, op, "H of down");
    require_equal(e.down.cols, width, op, "I of down");
  }
  weights.hidden = hidden;
  weights.width = width;
  weights.first_expert = first_expert;
  weights.count = static_cast<int32_t>(experts.size());
}

}  // namespace longspan
