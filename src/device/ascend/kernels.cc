#include "device/ascend/kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

namespace longspan::ascend {
namespace {

constexpr int8_t kKeepDType = 0;  // cubeMathType

const AclnnApi& ops(const Launcher& on) {
  return on.card.cann().ops;
}

}  // namespace

bool is_dense(Matrix m) {
  return m.rows <= 1 || m.row_stride == m.cols;
}

void copy(const Launcher& on, Matrix from, Matrix to) {
  call(on, ops(on).inplace_copy, on.tensor(to).get(), on.tensor(from).get());
}

Matrix dense(const Launcher& on, Matrix m, DType dtype) {
  if (m.dtype == dtype && is_dense(m)) return m;
  const Matrix result = on.scratch(m.rows, m.cols, dtype);
  copy(on, m, result);
  return result;
}

void add_to(const Launcher& on, Matrix y, Matrix out) {
  call(on, ops(on).inplace_add, on.tensor(out).get(), on.tensor(y).get(), make_scalar(on.card, 1).get());
}

Matrix column_of(const int32_t* bits, int64_t rows) {
  return {const_cast<int32_t*>(bits), DType::kF32, rows, 1, 1};
}

void fill_zero(const Launcher& on, Matrix out) {
  const Matrix zeros = is_dense(out) ? out : on.scratch(out.rows, out.cols, out.dtype);
  const auto bytes = static_cast<size_t>(zeros.rows * zeros.cols * size_of(zeros.dtype));
  on.card.check(on.card.acl().aclrtMemsetAsync(zeros.data, bytes, 0, bytes, on.handle), "aclrtMemsetAsync");
  if (zeros.data != out.data) copy(on, zeros, out);
}

void linear(const Launcher& on, Matrix x, const AscendLinear& w, Matrix out, bool accumulate) {
  const Matrix operand = dense(on, x, w.dtype);
  const Tensor transposed = make_tensor(on.card, w.weight->data(), acl_dtype(w.dtype),
                                        {w.in_features, w.out_features}, {1, w.in_features});
  const bool sums_in_out = accumulate || (w.bias && out.dtype == DType::kF32);
  const bool direct = w.dtype == out.dtype && !accumulate && is_dense(out) && (!w.bias || sums_in_out);
  const Matrix product = direct ? out : on.scratch(out.rows, out.cols, w.dtype);
  call(on, ops(on).mm, on.tensor(operand).get(), transposed.get(), on.tensor(product).get(), kKeepDType);
  if (w.bias && !sums_in_out) {  // the bias is added in f32, and rounded once
    const Matrix sum = on.scratch(out.rows, out.cols, DType::kF32);
    copy(on, product, sum);
    add_to(on, {w.bias->data(), DType::kF32, 1, out.cols, out.cols}, sum);
    copy(on, sum, out);
    return;
  }
  if (accumulate)
    add_to(on, product, out);
  else if (!direct)
    copy(on, product, out);
  if (w.bias) add_to(on, {w.bias->data(), DType::kF32, 1, out.cols, out.cols}, out);
}

namespace {

// Rows of `weight`'s length, normed to `y`, which may not be `x`.
void norm(const Launcher& on, const void* x, int64_t rows, int64_t cols, const float* weight, float eps,
          void* y) {
  const Matrix rstd = on.scratch(rows, 1, DType::kF32);
  call(on, ops(on).rms_norm, make_tensor(on.card, x, kAclFloat, {rows, cols}).get(),
       make_tensor(on.card, weight, kAclFloat, {cols}).get(), double{eps},
       make_tensor(on.card, y, kAclFloat, {rows, cols}).get(), on.tensor(rstd).get());
}

}  // namespace

void rms_norm(const Launcher& on, Matrix x, const float* weight, float eps, Matrix out) {
  const Matrix from = dense(on, x, DType::kF32);
  const bool direct = is_dense(out) && out.data != from.data;
  const Matrix to = direct ? out : on.scratch(out.rows, out.cols, DType::kF32);
  norm(on, from.data, x.rows, x.cols, weight, eps, to.data);
  if (!direct) copy(on, to, out);
}

namespace {

// f32 [rows, heads * dim] without gaps, turned by the angles of its row.
Matrix rotated(const Launcher& on, Matrix x, int64_t heads, int64_t dim, Matrix cos_sin) {
  const int64_t rows = x.rows;
  const auto* cos = static_cast<const float*>(cos_sin.data);
  const Dims of_rows = {1, rows, 1, dim}, bsnd = {1, rows, heads, dim};
  const Matrix turned = on.scratch(rows, heads * dim, DType::kF32);
  call(on, ops(on).rotary, make_tensor(on.card, x.data, kAclFloat, bsnd).get(),
       make_tensor(on.card, cos, kAclFloat, of_rows).get(),
       make_tensor(on.card, cos + rows * dim, kAclFloat, of_rows).get(), int64_t{0},
       make_tensor(on.card, turned.data, kAclFloat, bsnd).get());
  return turned;
}

}  // namespace

// Norms by themselves first, then each head's own weights.
void qkv_norm_rope(const Launcher& on, const QkvArgs& args, const float* ones) {
  const int64_t rows = args.qkv.rows, dim = args.head_dim, heads = args.heads_q + args.heads_kv;
  const int64_t q_cols = args.heads_q * dim, k_cols = args.heads_kv * dim;
  Matrix now = dense(on, args.qkv.slice_cols(0, heads * dim), DType::kF32);
  if (args.heads_norm) {
    const Matrix normed = on.scratch(rows, heads * dim, DType::kF32);
    norm(on, now.data, rows * heads, dim, ones, args.eps, normed.data);
    const Matrix weighted = on.scratch(rows, heads * dim, DType::kF32);
    call(on, ops(on).mul, on.tensor(normed).get(),
         make_tensor(on.card, args.heads_norm, kAclFloat, {1, heads * dim}).get(), on.tensor(weighted).get());
    now = weighted;
  }
  if (args.cos_sin.data) now = rotated(on, now, heads, dim, args.cos_sin);
  copy(on, now.slice_cols(0, q_cols), args.q);
  copy(on, now.slice_cols(q_cols, k_cols), args.kv.slice_cols(0, k_cols));
  copy(on, args.qkv.slice_cols(q_cols + k_cols, k_cols), args.kv.slice_cols(k_cols, k_cols));
}

void qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args) {
  const int64_t rows = args.x.rows, heads = args.heads, dim = args.head_dim;
  Matrix now = dense(on, args.x, DType::kF32);
  if (args.norm_weight) {
    const Matrix normed = on.scratch(rows, heads * dim, DType::kF32);
    norm(on, now.data, rows * heads, dim, args.norm_weight, args.eps, normed.data);
    now = normed;
  }
  if (args.cos_sin.data) now = rotated(on, now, heads, dim, args.cos_sin);
  if (now.data != args.x.data) copy(on, now, args.x);
}

void swiglu(const Launcher& on, Matrix gate_up, Matrix out) {
  const Matrix from = dense(on, gate_up, gate_up.dtype);
  const Matrix to = is_dense(out) ? out : on.scratch(out.rows, out.cols, out.dtype);
  call(on, ops(on).swiglu, on.tensor(from).get(), int64_t{-1}, on.tensor(to).get());
  if (to.data != out.data) copy(on, to, out);
}

// sigmoid(g) is the first of softmax(g, 0).
void add_gated(const Launcher& on, Matrix gate, Matrix y, Matrix out) {
  const Matrix pair = on.scratch(gate.rows, 2, DType::kF32), shares = on.scratch(gate.rows, 2, DType::kF32);
  fill_zero(on, pair);
  copy(on, gate.slice_cols(0, 1), pair.slice_cols(0, 1));
  call(on, ops(on).softmax, on.tensor(pair).get(), int64_t{1}, on.tensor(shares).get());
  const Matrix gated = on.scratch(y.rows, y.cols, DType::kF32);
  call(on, ops(on).mul, on.tensor(y).get(), on.tensor(shares.slice_cols(0, 1)).get(), on.tensor(gated).get());
  add_to(on, gated, out);
}

void select_rows(const Launcher& on, Matrix x, const int32_t* rows, Matrix out) {
  const Matrix to = is_dense(out) ? out : on.scratch(out.rows, out.cols, out.dtype);
  call(on, ops(on).index_select, on.tensor(x).get(), int64_t{0},
       make_tensor(on.card, rows, kAclInt32, {out.rows}).get(), on.tensor(to).get());
  if (to.data != out.data) copy(on, to, out);
}

namespace {

bool side_by_side(Matrix k, Matrix v) {
  return k.dtype == v.dtype && k.row_stride == v.row_stride && k.slice_cols(k.cols, 0).data == v.data;
}

// [K | V] of each row, without gaps, in bf16.
Matrix joined(const Launcher& on, Matrix k, Matrix v) {
  if (side_by_side(k, v))
    return dense(on, {k.data, k.dtype, k.rows, k.cols + v.cols, k.row_stride}, DType::kBF16);
  const Matrix both = on.scratch(k.rows, k.cols + v.cols, DType::kBF16);
  copy(on, k, both.slice_cols(0, k.cols));
  copy(on, v, both.slice_cols(k.cols, v.cols));
  return both;
}

struct Pieces {
  explicit Pieces(const AscendKvPool& pool)
      : cols(std::gcd(pool.k_cols(), pool.v_cols())),
        of_k(pool.k_cols() / cols),
        of_v(pool.v_cols() / cols),
        of_layer(pool.slots() * (of_k + of_v)) {
    check(of_layer <= std::numeric_limits<int32_t>::max(), "pieces of a layer are counted in 32 bits");
  }
  int64_t of_row() const { return of_k + of_v; }
  Tensor layer(const Launcher& on, const AscendKvPool& pool, int32_t index) const {
    return make_tensor(on.card, pool.k_rows(index).data, kAclBf16, {of_layer, cols});
  }
  Tensor rows(const Launcher& on, Matrix m) const {
    return make_tensor(on.card, m.data, kAclBf16, {m.rows * of_row(), cols});
  }
  const int64_t cols, of_k, of_v, of_layer;
};

}  // namespace

StagedIndices stage(Card& card, std::span<const int32_t> values) {
  if (values.empty()) return {};
  const std::shared_ptr<char> host = card.pinned(static_cast<int64_t>(values.size_bytes()));
  std::memcpy(host.get(), values.data(), values.size_bytes());
  return {{host, reinterpret_cast<const int32_t*>(host.get())}, std::ssize(values)};
}

IndexArray upload(const Launcher& on, const StagedIndices& staged) {
  const int64_t bytes = staged.size * int64_t{sizeof(int32_t)};
  void* device = on.arena.allocate(bytes);
  on.stream.copy_in(device, staged.host, bytes);
  return {staged.host.get(), static_cast<const int32_t*>(device), staged.size, staged.host};
}

StagedIndices stage_places(Card& card, const AscendKvPool& pool, std::span<const int32_t> slots) {
  const Pieces pieces(pool);
  std::vector<int32_t> places, kept;
  places.reserve(slots.size() * static_cast<size_t>(pieces.of_row()));
  for (size_t row = 0; row < slots.size(); ++row) {
    const int32_t slot = slots[row];
    if (slot < 0) continue;
    kept.push_back(static_cast<int32_t>(row));
    for (int64_t i = 0; i < pieces.of_k; ++i) places.push_back(static_cast<int32_t>(slot * pieces.of_k + i));
    for (int64_t i = 0; i < pieces.of_v; ++i)
      places.push_back(static_cast<int32_t>(pool.slots() * pieces.of_k + slot * pieces.of_v + i));
  }
  if (kept.size() < slots.size()) places.insert(places.end(), kept.begin(), kept.end());
  return stage(card, places);
}

namespace {

IndexArray places_of(const Launcher& on, const AscendKvPool& pool, const KvSlots& at) {
  const auto slots = std::span(at.slots.host, static_cast<size_t>(at.slots.size));
  return at.places.size ? at.places : upload(on, stage_places(on.card, pool, slots));
}

}  // namespace

void write_kv(const Launcher& on, const AscendKvPool& pool, int32_t layer, Matrix k, Matrix v,
              const KvSlots& to) {
  const Pieces pieces(pool);
  const auto slots = std::span(to.slots.host, static_cast<size_t>(to.slots.size));
  const int64_t kept = std::ranges::count_if(slots, [](int32_t slot) { return slot >= 0; });
  if (kept == 0) return;
  const IndexArray places = places_of(on, pool, to);
  const int64_t count = kept * pieces.of_row();
  check(places.size == count + (kept < k.rows ? kept : 0), "kv_write: places of these slots");
  Matrix rows = joined(on, k, v);
  if (kept < k.rows) {
    const Matrix all = std::exchange(rows, on.scratch(kept, rows.cols, rows.dtype));
    select_rows(on, all, places.device + count, rows);
  }
  call(on, ops(on).scatter_nd_update, pieces.layer(on, pool, layer).get(),
       make_tensor(on.card, places.device, kAclInt32, {count, 1}).get(), pieces.rows(on, rows).get());
}

void read_kv(const Launcher& on, const AscendKvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
             Matrix v) {
  const Pieces pieces(pool);
  const IndexArray places = places_of(on, pool, from);
  const int64_t count = from.slots.size;
  check(places.size == count * pieces.of_row(), "kv_read: places of these slots");
  const Matrix both{k.data, k.dtype, k.rows, k.cols + v.cols, k.row_stride};
  const bool direct = k.dtype == DType::kBF16 && side_by_side(k, v) && is_dense(both);
  const Matrix rows = direct ? both : on.scratch(count, pool.k_cols() + pool.v_cols(), DType::kBF16);
  call(on, ops(on).index_select, pieces.layer(on, pool, layer).get(), int64_t{0},
       make_tensor(on.card, places.device, kAclInt32, {places.size}).get(), pieces.rows(on, rows).get());
  if (direct) return;
  if (k.data) copy(on, rows.slice_cols(0, pool.k_cols()), k);
  if (v.data) copy(on, rows.slice_cols(pool.k_cols(), pool.v_cols()), v);
}

void download(const Launcher& on, Matrix src, void* dst) {
  const Matrix from = dense(on, src, src.dtype);
  const int64_t bytes = src.rows * src.cols * size_of(src.dtype);
  const std::shared_ptr<char> staged = on.card.pinned(bytes);
  const auto size = static_cast<size_t>(bytes);
  on.card.check(
      on.card.acl().aclrtMemcpyAsync(staged.get(), size, from.data, size, kAclDeviceToHost, on.handle),
      "aclrtMemcpyAsync");
  on.stream.wait();
  std::memcpy(dst, staged.get(), size);
}

}  // namespace longspan::ascend
