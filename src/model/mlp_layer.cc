#include "model/mlp_layer.h"

namespace longspan {

void mlp_layer(Ops& ops, OpContext& ctx, const MlpWeights& weights, Matrix x, Matrix out, bool accumulate) {
  const Arena::Scope scope(ctx.arena);
  const Matrix gate_up = ctx.arena.matrix(x.rows, 2 * weights.width, ops.inner_dtype());
  const Matrix activated = ctx.arena.matrix(x.rows, weights.width, ops.inner_dtype());
  ops.linear(ctx, x, *weights.gate_up, gate_up, /*accumulate=*/false);
  ops.swiglu(ctx, gate_up, activated);
  ops.linear(ctx, activated, *weights.down, out, accumulate);
}

}  // namespace longspan
