#pragma once

#include "device/ops.h"
#include "model/weights.h"

namespace longspan {

/// out = down(silu(gate(x)) * up(x)), or out += it: x, out f32 [T, H].
void mlp_layer(Ops& ops, OpContext& ctx, const MlpWeights& weights, Matrix x, Matrix out, bool accumulate);

}  // namespace longspan
