#include "device/ascend/kernels.h"

#include <cstring>

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

void qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args) {
  const int64_t rows = args.x.rows, heads = args.heads, dim = args.head_dim;
  Matrix now = dense(on, args.x, DType::kF32);
  if (args.norm_weight) {
    const Matrix normed = on.scratch(rows, heads * dim, DType::kF32);
    norm(on, now.data, rows * heads, dim, args.norm_weight, args.eps, normed.data);
    now = normed;
  }
  if (args.cos_sin.data) {
    const auto* cos = static_cast<const float*>(args.cos_sin.data);
    const Dims of_rows = {1, rows, 1, dim};
    const Matrix turned = on.scratch(rows, heads * dim, DType::kF32);
    const Dims bsnd = {1, rows, heads, dim};
    call(on, ops(on).rotary, make_tensor(on.card, now.data, kAclFloat, bsnd).get(),
         make_tensor(on.card, cos, kAclFloat, of_rows).get(),
         make_tensor(on.card, cos + rows * dim, kAclFloat, of_rows).get(), int64_t{0},
         make_tensor(on.card, turned.data, kAclFloat, bsnd).get());
    now = turned;
  }
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

void write_rows(const Launcher& on, Matrix pool, Matrix rows, IndexArray slots) {
  const Matrix updates = dense(on, rows, pool.dtype);
  call(on, ops(on).scatter_nd_update, on.tensor(pool).get(),
       make_tensor(on.card, slots.device, kAclInt32, {slots.size, 1}).get(), on.tensor(updates).get());
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
