#include "device/cpu/row_kernels.h"

namespace longspan {

const RowKernels& row_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return kRowKernelsAvx512;
  if (isa == Isa::kAvx2) return kRowKernelsAvx2;
#else
  static_cast<void>(isa);
#endif
  return kRowKernelsPortable;
}

}  // namespace longspan
