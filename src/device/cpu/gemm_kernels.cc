#include "device/cpu/gemm_kernels.h"

namespace longspan {

GemmKernels gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  GemmKernels result = isa >= Isa::kAvx512 ? kGemmAvx512 : isa == Isa::kAvx2 ? kGemmAvx2 : kGemmPortable;
  if (isa >= Isa::kAvx512Bf16) result.bf16 = isa == Isa::kAmx ? gemm_amx_bf16 : gemm_avx512_bf16;
  result.int8 = isa >= Isa::kAvx512Vnni ? gemm_avx512_vnni
                : isa == Isa::kAvx512   ? gemm_avx512_int8
                : isa == Isa::kAvx2     ? gemm_avx2_int8
                                        : gemm_portable_int8;
  return result;
#else
  static_cast<void>(isa);
  GemmKernels result = kGemmPortable;
  result.int8 = gemm_portable_int8;
  return result;
#endif
}

}  // namespace longspan
