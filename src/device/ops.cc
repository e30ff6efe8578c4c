#include "device/ops.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>

#include "base/check.h"

namespace longspan {

std::unique_ptr<EmbeddingTable> Ops::make_embedding(WeightView table) {
  return std::make_unique<EmbeddingTable>(table);
}

void Ops::qkv_norm_rope(OpContext& ctx, const QkvArgs& args) {
  const auto turn = [&](Matrix x, int32_t heads, const float* weight) {
    qk_norm_rope(ctx, {.x = x,
                       .heads = heads,
                       .head_dim = args.head_dim,
                       .norm_weight = weight,
                       .eps = args.eps,
                       .cos_sin = args.cos_sin});
  };
  turn(args.kv.slice_cols(0, int64_t{args.heads_kv} * args.head_dim), args.heads_kv, args.k_norm);
  turn(args.q, args.heads_q, args.q_norm);
}

std::shared_ptr<const float[]> Ops::resident(std::span<const float> values) {
  const auto copy = std::make_shared<float[]>(values.size());
  std::copy(values.begin(), values.end(), copy.get());
  return copy;
}

namespace {

StagedIndices copy_of(std::span<const int32_t> values) {
  const auto copy = std::make_shared<int32_t[]>(values.size());
  std::copy(values.begin(), values.end(), copy.get());
  return {copy, std::ssize(values)};
}

}  // namespace

StagedIndices Ops::stage(std::span<const int32_t> values) {
  return copy_of(values);
}

StagedForms Ops::stage_both(std::span<const int32_t> values, StagedIndices form) {
  return {form.size ? copy_of(values) : stage(values), std::move(form)};
}

IndexForms Ops::upload_both(OpContext& ctx, const StagedForms& staged) {
  const StagedIndices& values = staged.values;
  if (staged.form.size == 0) return {upload_staged(ctx, values), {}};
  return {{values.host.get(), nullptr, values.size, values.host}, upload_staged(ctx, staged.form)};
}

IndexArray Ops::upload_staged(OpContext&, const StagedIndices& staged) {
  return {staged.host.get(), staged.host.get(), staged.size, staged.host};
}

void Ops::check_partials(const KvShape&) {
  if (!merges_partials())
    throw Error(ErrorCode::kNotSupported,
                fmt::format("{}: --kv shard merges parts of attention, which this device can't; use --kv "
                            "replicate",
                            name()));
}

void Ops::upload_rope(OpContext&, const RopeRows&, Matrix) {
  check(false, "a device that makes no rope rows takes none");
}

// The rows' dtype holds what a pool holds.
void Ops::kv_copy(OpContext& ctx, KvPool& pool, std::span<const int32_t> from, std::span<const int32_t> to) {
  check(from.size() == to.size(), "kv_copy: as many slots to as from");
  const Arena::Scope scope(ctx.arena);
  const KvShape& shape = pool.shape;
  const int64_t k_cols = int64_t{shape.heads_k} * shape.dim_k, v_cols = int64_t{shape.heads_v} * shape.dim_v;
  const Matrix rows = ctx.arena.matrix(std::ssize(from), k_cols + v_cols, inner_dtype());
  const Matrix k = rows.slice_cols(0, k_cols), v = rows.slice_cols(k_cols, v_cols);
  const auto slots_of = [&](std::span<const int32_t> slots) {
    return KvSlots(upload_both(ctx, stage_both(slots, stage_places(pool, slots))));
  };
  const KvSlots source = slots_of(from), target = slots_of(to);
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    kv_read(ctx, pool, layer, source, k, v);
    kv_write(ctx, pool, layer, k, v, target);
  }
  ctx.wait();  // before the scratch goes
}

}  // namespace longspan
