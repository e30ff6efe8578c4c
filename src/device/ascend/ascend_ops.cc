#include "device/ascend/ascend_ops.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <cmath>
#include <cstring>

#include "device/ascend/kernels.h"
#include "device/op_checks.h"

namespace longspan::ascend {
namespace {

/// An op's scope: what it takes from the arena is given back at its end.
struct OpScope {
  OpScope(Card& card, OpContext& ctx) : scope(ctx.arena), on(card, ctx) {}
  Arena::Scope scope;
  Launcher on;
};

const AscendKvPool& as_ascend(const KvPool& pool) {
  const auto* result = dynamic_cast<const AscendKvPool*>(&pool);
  check(result != nullptr, "the KV pool belongs to another backend");
  return *result;
}

// `least` -1 where a row may go nowhere.
void check_slots(const AscendKvPool& pool, IndexArray slots, int32_t least) {
  for (int64_t i = 0; i < slots.size; ++i)
    check(slots.host[i] >= least && slots.host[i] < pool.slots(), "slots lie within the pool");
}

}  // namespace

AscendOps::AscendOps(Card& card, int32_t cp_launches)
    : card_(card),
      halves_apart_(takes_two_launches(cp_launches, card.cann().version())),
      mask_(card, kMaskSide * kMaskSide),
      ones_(card, kMostHeadDim * size_of(DType::kF32)) {
  ones_.fill(std::vector<float>(kMostHeadDim, 1).data(), ones_.bytes());
  std::vector<int8_t> mask(kMaskSide * kMaskSide);
  for (int64_t row = 0; row < kMaskSide; ++row)
    std::fill(mask.begin() + row * kMaskSide + row + 1, mask.begin() + (row + 1) * kMaskSide, int8_t{1});
  mask_.fill(mask.data(), std::ssize(mask));
  check_described();
}

// The first description of an operator tells whether CANN finds what it needs itself (ASCEND_OPP_PATH).
void AscendOps::check_described() const {
  const auto& op = card_.cann().ops.inplace_copy;
  const Tensor to = make_tensor(card_, mask_.data(), kAclFloat, {1});
  const Tensor from = make_tensor(card_, static_cast<char*>(mask_.data()) + 64, kAclFloat, {1});
  uint64_t bytes = 0;
  Executor never_run;
  card_.check(describe(card_, op, bytes, never_run, to.get(), from.get()), op.name);
}

std::string AscendOps::name() const {
  return fmt::format("ascend {} CANN {} bf16", card_.acl().aclrtGetSocName(), card_.cann().version());
}

std::unique_ptr<LinearWeight> AscendOps::pack_linear(std::span<const WeightView> stacked,
                                                     std::span<const WeightView> biases,
                                                     LinearPrecision precision) {
  return ascend::pack_linear(card_, stacked, biases, precision);
}

std::unique_ptr<ExpertWeights> AscendOps::pack_experts(std::span<const ExpertSource> experts,
                                                       int32_t first_expert, const ExpertPacked& packed) {
  return ascend::pack_experts(card_, experts, first_expert, packed);
}

int64_t AscendOps::packed_linear_bytes(int64_t out_features, int64_t in_features,
                                       LinearPrecision precision) const {
  return out_features * in_features *
         size_of(precision == LinearPrecision::kF32 ? DType::kF32 : DType::kBF16);
}

int64_t AscendOps::packed_expert_bytes(int64_t hidden, int64_t width) const {
  return 3 * hidden * width * size_of(DType::kBF16);
}

int64_t AscendOps::embedding_bytes(int64_t rows, int64_t cols, DType stored) const {
  return rows * cols * size_of(stored);
}

std::unique_ptr<EmbeddingTable> AscendOps::make_embedding(WeightView table) {
  return ascend::make_embedding(card_, table);
}

std::shared_ptr<const float[]> AscendOps::resident(std::span<const float> values) {
  return make_resident(card_, values);
}

std::unique_ptr<KvPool> AscendOps::make_kv_pool(const KvShape& shape) {
  std::unique_ptr<KvPool> pool = ascend::make_kv_pool(card_, shape);
  check_fused_attention(card_, as_ascend(*pool), mask_.data());
  return pool;
}

int64_t AscendOps::kv_page_bytes(const KvShape& shape) const {
  return ascend::kv_page_bytes(shape);
}

StagedIndices AscendOps::stage(std::span<const int32_t> values) {
  return ascend::stage(card_, values);
}

StagedIndices AscendOps::stage_places(const KvPool& pool, std::span<const int32_t> slots) {
  return ascend::stage_places(card_, as_ascend(pool), slots);
}

StagedIndices AscendOps::stage_pages(std::span<const Segment> segments, const BlockTable& table) {
  return ascend::stage_pages(card_, segments, table);
}

StagedIndices AscendOps::stage_parts(std::span<const int32_t> rows, int64_t count) {
  return ascend::stage_parts(card_, rows, count);
}

IndexArray AscendOps::upload_staged(OpContext& ctx, const StagedIndices& staged) {
  if (staged.size == 0) return {};
  return ascend::upload(Launcher(card_, ctx), staged);
}

void AscendOps::download(OpContext& ctx, Matrix src, std::span<float> dst) {
  check_download(src, dst);
  if (dst.empty()) return;
  const OpScope op(card_, ctx);
  ascend::download(op.on, src, dst.data());
}

void AscendOps::embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) {
  check_embedding(ids, table.view, out);
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  const WeightView& view = table.view;
  const DType dtype = view.dtype;
  const Matrix rows = op.on.scratch(out.rows, out.cols, dtype);
  call(op.on, card_.cann().ops.embedding,
       make_tensor(card_, static_cast<const AscendEmbedding&>(table).table->data(), acl_dtype(dtype),
                   {view.rows, view.cols})
           .get(),
       make_tensor(card_, ids.device, kAclInt32, {ids.size}).get(), op.on.tensor(rows).get());
  copy(op.on, rows, out);
}

void AscendOps::rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) {
  check_rms_norm(x, weight, out);
  if (x.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::rms_norm(op.on, x, weight, eps, out);
}

void AscendOps::linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) {
  check_linear(x, w, out, inner_dtype());
  check(!accumulate || out.dtype == DType::kF32, "sums are f32");
  if (x.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::linear(op.on, x, static_cast<const AscendLinear&>(w), out, accumulate);
}

void AscendOps::rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq,
                           float factor, Matrix cos_sin) {
  check_rope_table(positions, inv_freq, cos_sin, 2);
  const auto rows = static_cast<size_t>(positions.size);
  upload_rope(ctx, rope_rows({positions.host, rows}, inv_freq, factor), cos_sin);
}

// Angles in f32 on the host, as transformers rounds them; once a step. [T, D] cosines, then [T, D] sines,
// each half of a row twice: as RotaryPositionEmbedding takes them.
RopeRows AscendOps::rope_rows(std::span<const int32_t> positions, std::span<const float> inv_freq,
                              float factor) {
  if (positions.empty()) return {};
  const int64_t half = std::ssize(inv_freq), rows = std::ssize(positions);
  const std::shared_ptr<char> host = card_.pinned(4 * rows * half * size_of(DType::kF32));
  auto* cos = reinterpret_cast<float*>(host.get());
  float* sin = cos + rows * 2 * half;
  for (const int32_t position : positions) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * inv_freq[static_cast<size_t>(i)];
      cos[i] = cos[half + i] = std::cos(angle) * factor;
      sin[i] = sin[half + i] = std::sin(angle) * factor;
    }
    cos += 2 * half;
    sin += 2 * half;
  }
  return {host, rows};
}

void AscendOps::upload_rope(OpContext& ctx, const RopeRows& made, Matrix cos_sin) {
  check(made.rows == cos_sin.rows, "rope: T of the rows made and cos_sin");
  if (cos_sin.rows == 0) return;
  check(is_dense(cos_sin), "a rope table has no gaps");
  const Launcher on(card_, ctx);
  on.stream.copy_in(cos_sin.data, made.data, cos_sin.rows * cos_sin.cols * size_of(DType::kF32));
}

void AscendOps::qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) {
  check_qk_norm_rope(args, 2, inner_dtype());
  if (args.x.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::qk_norm_rope(op.on, args);
}

void AscendOps::qkv_norm_rope(OpContext& ctx, const QkvArgs& args) {
  check_qkv(args, 2, inner_dtype());
  check(args.head_dim <= kMostHeadDim, "a head has as many elements at most");
  if (args.qkv.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::qkv_norm_rope(op.on, args, static_cast<const float*>(ones_.data()));
}

void AscendOps::kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) {
  const AscendKvPool& p = as_ascend(pool);
  const IndexArray& slots = to.slots;
  check(k.rows == slots.size && v.rows == slots.size, "kv_write: T of k, v and slots");
  check(k.cols == p.k_cols() && v.cols == p.v_cols(), "kv_write: heads * D of k, v and the pool");
  check_slots(p, slots, -1);
  if (slots.size == 0) return;
  const OpScope op(card_, ctx);
  write_kv(op.on, p, layer, k, v, to);
}

void AscendOps::kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
                        Matrix v) {
  const AscendKvPool& p = as_ascend(pool);
  for (const auto& [to, cols] : {std::pair(k, p.k_cols()), std::pair(v, p.v_cols())})
    check(!to.data || (to.rows == from.slots.size && to.cols == cols), "kv_read: T and heads * D of k and v");
  check_slots(p, from.slots, 0);
  if (from.slots.size == 0) return;
  const OpScope op(card_, ctx);
  read_kv(op.on, p, layer, from, k, v);
}

void AscendOps::attention(OpContext& ctx, const AttentionArgs& args) {
  check_attention(args, inner_dtype());
  as_ascend(*args.pool);
  if (args.segments.empty()) return;
  const OpScope op(card_, ctx);
  ascend::attention(op.on, args, mask_.data(), halves_apart_);
}

void AscendOps::merge_partials(OpContext& ctx, const MergeArgs& args) {
  check_merge_partials(args, inner_dtype());
  if (args.out.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::merge_partials(op.on, args);
}

bool AscendOps::merges_partials() const {
  return card_.cann().ops.attention_update.describe != nullptr;
}

int32_t AscendOps::merged_at_once() const {
  return kMostParts;
}

void AscendOps::check_partials(const KvShape& shape) {
  const Cann& cann = card_.cann();
  if (!merges_partials())
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("backend ascend: --kv shard merges parts of attention with the operator {}, which "
                    "the installed CANN ({}) lacks; looked in {}; use --kv replicate",
                    cann.ops.attention_update.name, cann.version(), cann.operator_libraries()));
  try_partials(*this, card_, shape);
}

void AscendOps::moe_combine(OpContext&, Matrix, IndexArray, Matrix) {
  throw Error(ErrorCode::kNotSupported,
              "ascend: no operator here puts rows of experts elsewhere together; use moe_dp = cp");
}

void AscendOps::swiglu(OpContext& ctx, Matrix gate_up, Matrix out) {
  check_swiglu(gate_up, out, inner_dtype());
  check(gate_up.dtype == out.dtype, "swiglu: one dtype");
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::swiglu(op.on, gate_up, out);
}

void AscendOps::moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) {
  check_moe_route(logits, ids, weights);
  if (logits.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::moe_route(op.on, logits, normalize, ids, weights);
}

void AscendOps::moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights,
                            const ExpertWeights& experts, Matrix out) {
  check_moe_experts(x, ids, weights, experts, out);
  if (x.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::moe_experts(op.on, x, ids, weights, static_cast<const AscendExperts&>(experts), out);
}

void AscendOps::check_split_experts() const {
  const Cann& cann = card_.cann();
  if (cann.ops.init_routing_v3.describe) return;
  throw Error(
      ErrorCode::kNotSupported,
      fmt::format("backend ascend: --ep above 1 routes to a part of the experts with the operator {}, which "
                  "the installed CANN ({}) lacks; looked in {}; use --ep 1, which splits each expert's "
                  "width",
                  cann.ops.init_routing_v3.name, cann.version(), cann.operator_libraries()));
}

void AscendOps::add_gated(OpContext& ctx, Matrix gate, Matrix y, Matrix out) {
  check_add_gated(gate, y, out);
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  ascend::add_gated(op.on, gate, y, out);
}

void AscendOps::add(OpContext& ctx, Matrix y, Matrix out) {
  check_add(y, out);
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  add_to(op.on, y, out);
}

void AscendOps::clear(OpContext& ctx, Matrix out) {
  check_f32(out, "clear", "out");
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  fill_zero(op.on, out);
}

void AscendOps::convert(OpContext& ctx, Matrix src, Matrix dst) {
  check_convert(src, dst);
  if (src.rows == 0) return;
  const OpScope op(card_, ctx);
  copy(op.on, src, dst);
}

void AscendOps::gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) {
  check_gather_rows(x, rows, out, inner_dtype());
  if (out.rows == 0) return;
  const OpScope op(card_, ctx);
  select_rows(op.on, x, rows.device, out);
}

// Column 0 of out = values.
void AscendOps::put_column(OpContext& ctx, std::span<const float> values, Matrix out) {
  const OpScope op(card_, ctx);
  const auto bytes = static_cast<int64_t>(values.size_bytes());
  const std::shared_ptr<char> host = card_.pinned(bytes);
  std::memcpy(host.get(), values.data(), values.size_bytes());
  const Matrix column = op.on.scratch(out.rows, 1, DType::kF32);
  op.on.stream.copy_in(column.data, host, bytes);
  copy(op.on, column, out.slice_cols(0, 1));
}

void AscendOps::log_softmax_at(OpContext& ctx, Matrix logits, IndexArray targets, Matrix out) {
  check_log_softmax_at(logits, targets, out);
  if (logits.rows == 0) return;
  RowScores scores;
  {
    const OpScope op(card_, ctx);
    scores = score_rows(op.on, logits, {targets.host, static_cast<size_t>(targets.size)});
  }
  for (size_t i = 0; i < scores.log_sums.size(); ++i) scores.target_logits[i] -= scores.log_sums[i];
  put_column(ctx, scores.target_logits, out);
}

void AscendOps::log_sum_exp(OpContext& ctx, Matrix logits, Matrix out) {
  check_log_sum_exp(logits, out);
  if (logits.rows == 0) return;
  RowScores scores;
  {
    const OpScope op(card_, ctx);
    scores = score_rows(op.on, logits, {});
  }
  put_column(ctx, scores.log_sums, out);
}

}  // namespace longspan::ascend
