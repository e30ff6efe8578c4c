#pragma once

#include "device/ops.h"

namespace longspan {

void cpu_merge_partials(OpContext& ctx, const MergeArgs& args);
void cpu_moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out);

}  // namespace longspan
