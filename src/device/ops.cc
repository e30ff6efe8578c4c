#include "device/ops.h"

#include <algorithm>

#include "base/check.h"

namespace longspan {

std::unique_ptr<EmbeddingTable> Ops::make_embedding(WeightView table) {
  return std::make_unique<EmbeddingTable>(table);
}

std::shared_ptr<const float[]> Ops::resident(std::span<const float> values) {
  const auto copy = std::make_shared<float[]>(values.size());
  std::copy(values.begin(), values.end(), copy.get());
  return copy;
}

// f32 holds what a pool holds.
void Ops::kv_copy(OpContext& ctx, KvPool& pool, IndexArray from, IndexArray to) {
  check(from.size == to.size, "kv_copy: as many slots to as from");
  const Arena::Scope scope(ctx.arena);
  const KvShape& shape = pool.shape;
  const Matrix k = ctx.arena.matrix(from.size, int64_t{shape.heads_k} * shape.dim_k);
  const Matrix v = ctx.arena.matrix(from.size, int64_t{shape.heads_v} * shape.dim_v);
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    kv_read(ctx, pool, layer, from, k, v);
    kv_write(ctx, pool, layer, k, v, to);
  }
  ctx.wait();  // before the scratch goes
}

}  // namespace longspan
