#include "device/cpu/gemm_kernels.h"

namespace longspan {

GemmKernels gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  GemmKernels result = isa >= Isa::kAvx512 ? kGemmAvx512 : isa == Isa::kAvx2 ? kGemmAvx2 : kGemmPortable;
  if (isa >= Isa::kAvx512Bf16) result.bf16 = isa == Isa::kAmx ? gemm_amx_bf16 : gemm_avx512_bf16;
  return result;
#else
  static_cast<void>(isa);
  return kGemmPortable;
#endif
}

}  // namespace longspan
