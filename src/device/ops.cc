#include "device/ops.h"

#include <algorithm>

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

}  // namespace longspan
