#pragma once

#include "device/cpu/cpu_features.h"
#include "device/ops.h"

namespace longspan {

/// Grouped-query attention over the pages of a CpuKvPool (args.pool must be one), see AttentionArgs.
///
/// The result of a query row depends on that row, its keys and `isa` alone: not on the segment it came in, on
/// the rows beside it, or on ctx.threads, to the bit. Keys are reduced in chunks of 2048 page slots counted
/// from the sequence's start; a chunk by online softmax in f32, base 2, and chunks merge in ascending order.
/// bf16 KV multiplies in bf16 with f32 sums on kAvx512Bf16 and kAmx, else in f32; f32 KV always in f32.
void cpu_attention(OpContext& ctx, const AttentionArgs& args, Isa isa);

}  // namespace longspan
