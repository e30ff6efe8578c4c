#pragma once

#include "device/ops.h"

namespace longspan {

void cpu_merge_partials(OpContext& ctx, const MergeArgs& args);

}  // namespace longspan
