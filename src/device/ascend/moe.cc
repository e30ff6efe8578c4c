#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

struct Expanded {
  Matrix x;       // bf16 [rows * k, H], sorted by expert
  Matrix places;  // i32 [rows * k, 1]: where each pair of token order lies there; -1: with another rank's
                  // experts
  Tensor counts;  // INT64 [E] of this rank's
};

Tensor flat(const Launcher& on, Matrix m) {
  return make_tensor(on.card, m.data, acl_dtype(m.dtype), {m.rows * m.cols});
}

// The experts of a layer that a rank has.
struct Share {
  int64_t first, count, of_layer;
  explicit Share(const ExpertWeights& experts)
      : first(experts.first_expert),
        count(experts.count),
        of_layer(experts.of_layer ? experts.of_layer : first + count) {}
  bool whole() const { return count == of_layer; }
};

// Groups the rows by expert, with the version of the operator that is there and right.
Expanded expand(const Launcher& on, Matrix x, Matrix ids, const Share& share) {
  const AclnnApi& ops = on.card.cann().ops;
  const int64_t pairs = ids.rows * ids.cols, experts = share.of_layer;
  const Matrix places = on.scratch(pairs, 1, DType::kI32);
  void* counts64 = on.arena.allocate(share.count * 8);
  Expanded result{on.scratch(pairs, x.cols, DType::kBF16), places,
                  make_tensor(on.card, counts64, kAclInt64, {share.count})};
  if (!share.whole() || takes_routing_v3(ops, on.card.cann().version(), experts, x.cols)) {
    const Matrix scales = on.scratch(pairs, 1, DType::kF32);  // must be there, stays unwritten
    const IntArray range =
        make_integers(on.card, std::vector<int64_t>{share.first, share.first + share.count});
    call(on, ops.init_routing_v3, on.tensor(x).get(), on.tensor(ids).get(), nullptr, nullptr, pairs,
         int64_t{0}, experts, int64_t{0}, int64_t{1} /*counts*/, true, int64_t{-1} /*unquantised*/,
         range.get(), int64_t{0} /*gather*/, on.tensor(result.x).get(), flat(on, places).get(),
         result.counts.get(), flat(on, scales).get());
    return result;
  }
  const Matrix counts32 = on.scratch(experts, 1, DType::kI32);
  call(on, ops.init_routing_v2, on.tensor(x).get(), on.tensor(ids).get(), int64_t{0}, int64_t{0}, experts,
       int64_t{0}, int64_t{2} /*counts*/, false, on.tensor(result.x).get(), flat(on, places).get(),
       flat(on, counts32).get(), nullptr);
  call(on, ops.cast, flat(on, counts32).get(), kAclInt64, result.counts.get());
  return result;
}

// out = x times each group's matrix W^T of `weights` [E, out, in].
void grouped(const Launcher& on, Matrix x, const DeviceBuffer& weights, int64_t experts, const Tensor& counts,
             Matrix out) {
  const AclnnApi& ops = on.card.cann().ops;
  const int64_t in = x.cols, width = out.cols;
  const TensorList from = make_list(on.card, on.tensor(x)), to = make_list(on.card, on.tensor(out));
  const TensorList w = make_list(
      on.card, make_tensor(on.card, weights.data(), kAclBf16, {experts, in, width}, {width * in, 1, in}));
  constexpr int64_t kOneOutput = 2, kByRows = 0, kCounts = 1, kNoActivation = 0;
  if (ops.grouped_matmul_v4.describe) {
    call(on, ops.grouped_matmul_v4, from.get(), w.get(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
         counts.get(), nullptr, nullptr, nullptr, kOneOutput, kByRows, kCounts, kNoActivation, to.get(),
         nullptr, nullptr);
  } else {
    call(on, ops.grouped_matmul_v5, from.get(), w.get(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
         counts.get(), nullptr, nullptr, nullptr, kOneOutput, kByRows, kCounts, kNoActivation, nullptr,
         to.get(), nullptr, nullptr);
  }
}

}  // namespace

bool takes_routing_v3(const AclnnApi& ops, std::string_view version, int64_t experts, int64_t hidden) {
  if (!ops.init_routing_v3.describe) return false;
  const bool suspect = experts == 128 && hidden == 2048 && !is_at_least(version, 8, 5);
  return !(suspect && ops.init_routing_v2.describe);
}

void moe_route(const Launcher& on, Matrix logits, bool normalize, Matrix ids, Matrix weights) {
  check(is_dense(ids) && is_dense(weights), "routing writes matrices without gaps");
  const Matrix from = dense(on, logits, DType::kF32);
  call(on, on.card.cann().ops.gating, on.tensor(from).get(), nullptr, ids.cols, int64_t{normalize ? 1 : 0},
       false, on.tensor(weights).get(), on.tensor(ids).get(), nullptr);
}

void moe_experts(const Launcher& on, Matrix x, Matrix ids, Matrix weights, const AscendExperts& experts,
                 Matrix out) {
  const Share share(experts);
  check(is_dense(ids) && is_dense(weights), "routing matrices have no gaps");
  const Expanded expanded = expand(on, dense(on, x, DType::kBF16), ids, share);
  const int64_t pairs = expanded.x.rows;
  const Matrix gate_up = on.scratch(pairs, 2 * experts.width, DType::kBF16);
  const Matrix activated = on.scratch(pairs, experts.width, DType::kBF16);
  const Matrix y = on.scratch(pairs, experts.hidden, DType::kBF16);
  if (!share.whole()) fill_zero(on, gate_up);  // rows of other ranks' experts are not written
  grouped(on, expanded.x, *experts.gate_up, experts.count, expanded.counts, gate_up);
  swiglu(on, gate_up, activated);
  grouped(on, activated, *experts.down, experts.count, expanded.counts, y);
  const Matrix sum = on.scratch(x.rows, experts.hidden, DType::kBF16);
  // In row order; the second leaves places of -1 out, and takes rows as [experts, capacity, H].
  constexpr int64_t kRowOrder = 2, kRowOrderWithGaps = 3;
  const Tensor rows =
      share.whole() ? on.tensor(y) : make_tensor(on.card, y.data, kAclBf16, {1, pairs, experts.hidden});
  call(on, on.card.cann().ops.finalize_routing, rows.get(), flat(on, expanded.places).get(), nullptr, nullptr,
       nullptr, on.tensor(weights).get(), nullptr, share.whole() ? kRowOrder : kRowOrderWithGaps,
       on.tensor(sum).get());
  add_to(on, sum, out);
}

}  // namespace longspan::ascend
