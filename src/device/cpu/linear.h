#pragma once

#include <memory>
#include <vector>

#include "device/cpu/tile_gemm.h"
#include "device/ops.h"

namespace longspan {

class CpuLinearWeight : public LinearWeight {
 public:
  PackedMatrix matrix;
  std::vector<float> bias;                       // [out] or empty
  std::shared_ptr<const OneDnnProduct> product;  // for many rows at a time; may be null
};

std::unique_ptr<LinearWeight> cpu_pack_linear(std::span<const WeightView> stacked,
                                              std::span<const WeightView> biases, const CpuKernels& kernels,
                                              Arithmetic arithmetic);
int64_t cpu_packed_linear_bytes(int64_t out_features, int64_t in_features, Arithmetic arithmetic);

/// out = x W^T + b or out += x W^T + b. A row of out depends on that row of x alone, to the bit.
void cpu_linear(OpContext& ctx, const CpuKernels& kernels, Matrix x, const LinearWeight& w, Matrix out,
                bool accumulate);

}  // namespace longspan
