#pragma once

#include <memory>

#include "device/cpu/tile_gemm.h"
#include "device/ops.h"

namespace longspan {

/// Panels of all experts after each other. Gate and up alternate panel by panel, so that one multiply gives
/// 64 columns of both and their product follows at once.
class CpuExpertWeights : public ExpertWeights {
 public:
  PackedMatrix gate_up;  // per expert: gate 0..63, up 0..63, gate 64..127, ...
  PackedMatrix down;
  int64_t pairs() const { return PackedMatrix::panels_for(width); }         // of gate and up, per expert
  int64_t down_panels() const { return PackedMatrix::panels_for(hidden); }  // per expert
};

std::unique_ptr<ExpertWeights> cpu_pack_experts(std::span<const ExpertSource> experts, int32_t first_expert,
                                                Arithmetic arithmetic, const ExpertPacked& packed);
int64_t cpu_packed_expert_bytes(int64_t hidden, int64_t width, Arithmetic arithmetic);

void cpu_moe_route(OpContext& ctx, const RowKernels& kernels, Matrix logits, bool normalize, Matrix ids,
                   Matrix weights);
void cpu_moe_experts(OpContext& ctx, const CpuKernels& kernels, Matrix x, Matrix ids, Matrix weights,
                     const ExpertWeights& experts, Matrix out);

}  // namespace longspan
